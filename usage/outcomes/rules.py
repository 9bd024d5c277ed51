"""The rules in force: load them from a document, and find the version that judges a conversation."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts.models import Organization
from usage.models.outcomes import OutcomePrice, OutcomeRuleVersion
from usage.models.prices import PriceBook
from usage.outcomes import rule_documents
from usage.outcomes.judging import Rules, reply_value
from usage.outcomes.rule_documents import RulesEntry
from usage.price_documents import PriceDocumentInvalid


class RulesInForce(Exception):
    """A rule version that is in force, or that judged conversations, cannot be edited; enter a new version."""

    def __init__(self, version: OutcomeRuleVersion) -> None:
        super().__init__(f"{version} is in force since {version.starts_at:%Y-%m-%d %H:%M} UTC and cannot be changed.")
        self.version = version


class RulesBackdated(Exception):
    """A new version of rules that judged conversations must start in the future: what was judged stays judged."""

    def __init__(self, book: str, starts_at: datetime) -> None:
        super().__init__(
            f"{book} has judged conversations, and new rules cannot start at {starts_at:%Y-%m-%d %H:%M} UTC."
        )
        self.book = book
        self.starts_at = starts_at


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The versions that may judge an organization's conversations, the oldest first: its own, and the public ones."""

    own: tuple[Rules, ...]
    public: tuple[Rules, ...]

    def at(self, began_at: datetime) -> Rules | None:
        """Return the version for a conversation that began then: the one in force, else the book's first."""
        for versions in (self.own, self.public):
            started = [version for version in versions if version.starts_at <= began_at]
            if started:
                return started[-1]
        return next(iter(self.public or self.own), None)


def current(organization_ids: Collection[int]) -> dict[int, RuleBook]:
    """Return the rule books of organizations."""
    payers = dict(Organization.objects.filter(pk__in=organization_ids).values_list("pk", "currency"))
    wanted = Q(book__organization__in=payers) | Q(book__is_default=True, book__currency__in=set(payers.values()))
    own: dict[int, list[Rules]] = {}
    public: dict[str, list[Rules]] = {}
    versions = OutcomeRuleVersion.objects.filter(wanted).select_related("book").prefetch_related("prices")
    for version in versions.order_by("starts_at", "id"):
        rules = plain(version)
        if version.book.organization_id is not None:
            own.setdefault(version.book.organization_id, []).append(rules)
        if version.book.is_default:
            public.setdefault(version.book.currency, []).append(rules)
    return {
        organization_id: RuleBook(tuple(own.get(organization_id, ())), tuple(public.get(currency, ())))
        for organization_id, currency in payers.items()
    }


def plain(version: OutcomeRuleVersion) -> Rules:
    """Return a version as plain values."""
    return Rules(
        version_id=version.pk,
        number=version.number,
        starts_at=version.starts_at,
        window=timedelta(seconds=version.window_seconds),
        precedence=tuple(version.precedence),
        confirming_replies=_values(version.confirming_replies),
        reversing_replies=_values(version.reversing_replies),
        confirming_rating=version.confirming_rating,
        reversing_rating=version.reversing_rating,
        escalation_reverses=version.escalation_reverses,
        closing_decides=version.closing_decides,
        prices={price.outcome: price.price_micros for price in version.prices.all()},
    )


def proposed(entry: RulesEntry) -> Rules:
    """Return a version that is not stored as plain values; its id is 0."""
    return Rules(
        version_id=0,
        number=entry.number,
        starts_at=entry.starts_at_utc,
        window=timedelta(hours=entry.window_hours),
        precedence=tuple(_texts(entry.precedence)),
        confirming_replies=_values(entry.confirming_replies),
        reversing_replies=_values(entry.reversing_replies),
        confirming_rating=entry.confirming_rating,
        reversing_rating=entry.reversing_rating,
        escalation_reverses=entry.escalation_reverses,
        closing_decides=entry.closing_decides,
        prices=rule_documents.micros(entry),
    )


def judged_by(book: PriceBook, *, at: datetime) -> QuerySet[Organization]:
    """Return the organizations whose conversations that begin `at` a version of this book would judge.

    A public book is for those of its currency without rules of their own by then.
    """
    if book.organization_id is not None:
        return Organization.objects.filter(pk=book.organization_id)
    if not book.is_default:
        return Organization.objects.none()
    own = OutcomeRuleVersion.objects.filter(book__organization=OuterRef("pk"), starts_at__lte=at)
    return Organization.objects.filter(~Exists(own), currency=book.currency)


def load(document: dict[str, Any], *, now: datetime) -> list[OutcomeRuleVersion]:
    """Store a parsed document of rules, as `rule_documents` describes it; return the versions made or changed.

    All or nothing; the same content again changes nothing. Raises PriceDocumentInvalid naming the place, RulesInForce
    for changed content of a version in force, RulesBackdated for a new one that starts in the past of rules in use.
    """
    entries = rule_documents.read(document)
    with transaction.atomic():
        changed = [_load(f"rules[{position}]", entry, now=now) for position, entry in enumerate(entries)]
    return [version for version in changed if version is not None]


def editable(version: OutcomeRuleVersion, now: datetime) -> bool:
    """Say whether a version may still be changed: it is not in force yet, and judged nothing."""
    return version.starts_at > now and not version.is_used


def _load(path: str, entry: RulesEntry, *, now: datetime) -> OutcomeRuleVersion | None:
    book = PriceBook.objects.select_for_update().filter(reference=entry.book).first()
    if book is None:
        raise PriceDocumentInvalid(f"{path}.book", f"There is no price book {entry.book}.")
    version = OutcomeRuleVersion.objects.filter(book=book, number=entry.number).first()
    values = _columns(entry)
    if version is None:
        if entry.starts_at_utc <= now and OutcomeRuleVersion.objects.filter(book=book, is_used=True).exists():
            raise RulesBackdated(str(book), entry.starts_at_utc)
        version = OutcomeRuleVersion.objects.create(book=book, number=entry.number, created_at=now, **values)
        return _with_prices(version, entry)
    priced = dict(version.prices.values_list("outcome", "price_micros"))
    if all(getattr(version, name) == value for name, value in values.items()) and priced == rule_documents.micros(
        entry
    ):
        return None
    if not editable(version, now):
        raise RulesInForce(version)
    for name, value in values.items():
        setattr(version, name, value)
    version.save()
    version.prices.all().delete()
    return _with_prices(version, entry)


def _columns(entry: RulesEntry) -> dict[str, Any]:
    return {
        "starts_at": entry.starts_at_utc,
        "window_seconds": entry.window_hours * 3600,
        "precedence": _texts(entry.precedence),
        "confirming_replies": _texts(entry.confirming_replies),
        "reversing_replies": _texts(entry.reversing_replies),
        "confirming_rating": entry.confirming_rating,
        "reversing_rating": entry.reversing_rating,
        "escalation_reverses": entry.escalation_reverses,
        "closing_decides": entry.closing_decides,
        "note": entry.note,
    }


def _with_prices(version: OutcomeRuleVersion, entry: RulesEntry) -> OutcomeRuleVersion:
    OutcomePrice.objects.bulk_create(
        OutcomePrice(version=version, outcome=outcome, price_micros=price)
        for outcome, price in sorted(rule_documents.micros(entry).items())
    )
    return version


def _texts(values: Iterable[str]) -> list[str]:
    return [str(value) for value in values]


def _values(replies: Iterable[str]) -> frozenset[int]:
    return frozenset(reply_value(reply) for reply in replies)
