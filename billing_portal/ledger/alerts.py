"""Alerts: thresholds on spend, credit and buckets, each told once, also after a crash.

That a threshold was passed is a unique row, written in one transaction with the letters that tell of it; so neither
is there without the other, and the outbox sends what is there. They are checked after each settlement, and by a sweep.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum

from accounts import letters
from accounts.models import Organization, User
from billing_portal.ledger import accounts, standing
from billing_portal.ledger.models import Alert, AlertSettings, Bucket, Entry, Grant, MonthSpend, Transaction
from billing_portal.ledger.standing import Standing

log = structlog.get_logger(__name__)

DEFAULT_PERCENTS = (50, 80, 90, 100)
MOST_RECIPIENTS = 10
MOST_PERCENT = 1_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What is told of, and whom; see `AlertSettings`."""

    spend_percents: tuple[int, ...] = DEFAULT_PERCENTS
    credit_percents: tuple[int, ...] = DEFAULT_PERCENTS
    bucket_percents: tuple[int, ...] = DEFAULT_PERCENTS
    budget_micros: int | None = None
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gauge shows: `used` of `base`, in whole units of its own, within a period of its own."""

    gauge: Alert.Gauge
    period: str
    used: int
    base: int
    percents: tuple[int, ...]


def terms_of(organization_id: int) -> Terms:
    """Return the organization's settings, or the defaults."""
    kept = AlertSettings.objects.filter(organization_id=organization_id).first()
    if kept is None:
        return Terms()
    return Terms(
        spend_percents=tuple(kept.spend_percents),
        credit_percents=tuple(kept.credit_percents),
        bucket_percents=tuple(kept.bucket_percents),
        budget_micros=kept.budget_micros,
        recipients=tuple(kept.recipients),
    )


def set(organization_id: int, terms: Terms, *, by: User | None, now: datetime) -> None:  # noqa: A001 - as in `limits`
    """Keep the settings. What is passed already is not told: whoever sets a threshold sees where things stand."""
    with transaction.atomic():
        accounts.lock(organization_id, even_frozen=True)
        AlertSettings.objects.update_or_create(
            organization_id=organization_id,
            defaults={
                "spend_percents": sorted({*terms.spend_percents}),
                "credit_percents": sorted({*terms.credit_percents}),
                "bucket_percents": sorted({*terms.bucket_percents}),
                "budget_micros": terms.budget_micros,
                "recipients": list(terms.recipients),
                "set_at": now,
                "set_by": by,
            },
        )
        acknowledge(organization_id, now=now)
    log.info("alerts set", organization_id=organization_id)


def acknowledge(organization_id: int, *, now: datetime) -> None:
    """Note what is passed already without telling it; for who has just changed what 100 % is."""
    _raise_passed(organization_id, now=now, quietly=True)


def check(organization_id: int, *, now: datetime) -> list[Alert]:
    """Tell of every threshold that was passed and not told yet; return what was told. Raises AccountMissing.

    Of several passed at once only the highest is told.
    """
    # Read before the check, so that what comes meanwhile is checked again.
    seen = list(_unchecked().filter(organization_id=organization_id).values_list("pk", _SPENT))
    seen_buckets = list(_unchecked_buckets(organization_id).values_list("pk", "remaining_units"))
    found = standing.of(organization_id, now=now)
    told = _raise_passed(organization_id, now=now, quietly=False) if _anything_new(found) else []
    for pk, micros in seen:
        MonthSpend.objects.filter(pk=pk).update(checked_micros=micros)
    for pk, units in seen_buckets:
        Bucket.objects.filter(pk=pk).update(checked_units=units)
    return told


def due(*, limit: int) -> list[int]:
    """Return organizations whose spend or buckets have changed since their alerts were checked: the task was lost."""
    newest = _unchecked().order_by("-month", "organization_id").values_list("organization_id", flat=True)
    buckets = _unchecked_buckets().order_by("organization_id").values_list("organization_id", flat=True)
    return list(dict.fromkeys([*newest[:limit], *buckets[:limit]]))[:limit]


_SPENT = F("gross_micros") - F("given_back_micros")


def _unchecked() -> QuerySet[MonthSpend]:
    return MonthSpend.objects.filter(Q(checked_micros=None) | ~Q(checked_micros=_SPENT))


def _unchecked_buckets(*organization_ids: int) -> QuerySet[Bucket]:
    changed = Bucket.objects.filter(Q(checked_units=None) | ~Q(checked_units=F("remaining_units")))
    return changed.filter(organization_id__in=organization_ids) if organization_ids else changed


def readings(found: Standing, terms: Terms) -> list[Reading]:
    """Return what every gauge shows that can show something."""
    return [reading for gauge in GAUGES for reading in gauge(found, terms) if reading.base > 0]


def _spend(found: Standing, terms: Terms) -> Iterator[Reading]:
    base = terms.budget_micros or found.cap_micros
    if base is None:
        return
    yield Reading(Alert.Gauge.SPEND, f"{found.month:%Y-%m}", found.spent_micros, base, terms.spend_percents)


def _credit(found: Standing, terms: Terms) -> Iterator[Reading]:
    """Measure credit against what there was when the last of it came in.

    What was taken back since was never used, and a letter of its own has told of it.
    """
    latest = Grant.objects.filter(organization_id=found.organization_id).order_by("-id").first()
    if latest is None:
        return
    granted = Transaction.objects.filter(
        organization_id=found.organization_id, reference=f"grant:{latest.reference}"
    ).first()
    if granted is None:
        return
    since = Entry.objects.filter(
        organization_id=found.organization_id, book=Entry.Book.CREDIT, transaction_id__gt=granted.pk
    ).exclude(transaction__kind=Transaction.Kind.REVERSE)
    used = -int(since.aggregate(micros=Sum("micros"))["micros"] or 0)
    yield Reading(Alert.Gauge.CREDIT, f"grant:{latest.pk}", used, used + found.credit_micros, terms.credit_percents)


def _buckets(found: Standing, terms: Terms) -> Iterator[Reading]:
    """Measure each bucket whose term is not over by the units that it gave for good.

    One in whose place a larger stands is not told of any more: what was left of it is there. Units whose payment is
    disputed or went back do not count, and of a bucket that is empty for them a letter has told.
    """
    running = Bucket.objects.filter(organization_id=found.organization_id, expires_at__gt=found.at, replaced_by=None)
    told = running.exclude(claimed_units__gt=0, remaining_units=0)
    for bucket in told.order_by("expires_at", "id"):
        base = bucket.size - bucket.claimed_units
        yield Reading(Alert.Gauge.BUCKET, f"bucket:{bucket.pk}", bucket.used_units, base, terms.bucket_percents)


# Another gauge is one more function and one more `Alert.Gauge`.
GAUGES: tuple[Callable[[Standing, Terms], Iterator[Reading]], ...] = (_spend, _credit, _buckets)


def passed(reading: Reading) -> dict[int, int]:
    """Return the thresholds that are passed, by percent; of percentages that fall on one amount, the highest."""
    by_threshold = {-(-reading.base * percent // 100): percent for percent in sorted(reading.percents)}
    return {percent: threshold for threshold, percent in by_threshold.items() if reading.used >= threshold}


def _anything_new(found: Standing) -> bool:
    """Say whether a threshold is passed that has no row yet: most settlements pass none, and need no lock."""
    terms = terms_of(found.organization_id)
    for reading in readings(found, terms):
        known = _of(found.organization_id, reading).values_list("threshold", flat=True)
        if {*passed(reading).values()} - {*known}:
            return True
    return False


def _raise_passed(organization_id: int, *, now: datetime, quietly: bool) -> list[Alert]:
    told = []
    with transaction.atomic():
        account = accounts.lock(organization_id, even_frozen=True)
        terms = terms_of(organization_id)
        recipients = list(terms.recipients) or letters.billing_addresses(account.organization)
        for reading in readings(standing.of(organization_id, now=now), terms):
            alert = _raise(account.organization, reading, recipients, now=now, quietly=quietly)
            if alert is not None:
                _write(alert, account.organization, account.currency, now=now)
                told.append(alert)
    return told


def _raise(
    organization: Organization, reading: Reading, recipients: list[str], *, now: datetime, quietly: bool
) -> Alert | None:
    """Write a row for every threshold newly passed; return the one to tell of, if it is above all that were."""
    known = {*_of(organization.pk, reading).values_list("threshold", flat=True)}
    crossed = passed(reading)
    new = {percent: threshold for percent, threshold in crossed.items() if threshold not in known}
    if not new:
        return None
    highest = max(new)
    to_tell = None
    for percent, threshold in new.items():
        is_told = percent == highest and percent == max(crossed) and not quietly
        alert = Alert.objects.create(
            organization=organization,
            gauge=reading.gauge,
            period=reading.period,
            percent=percent,
            threshold=threshold,
            base=reading.base,
            used=reading.used,
            is_quiet=not is_told,
            recipients=recipients if is_told else [],
            raised_at=now,
        )
        to_tell = alert if is_told else to_tell
    return to_tell


def _of(organization_id: int, reading: Reading) -> QuerySet[Alert]:
    return Alert.objects.filter(organization_id=organization_id, gauge=reading.gauge, period=reading.period)


def _write(alert: Alert, organization: Organization, currency: str, *, now: datetime) -> None:
    letters.write(
        template="emails/alert",
        reference=alert.letter_reference,
        to=alert.recipients,
        now=now,
        organization=organization,
        alert=alert,
        currency=currency,
        bucket=_bucket_of(alert),
        left=max(0, alert.base - alert.used),
    )
    log.info("alert raised", organization_id=organization.pk, alert_id=alert.pk, percent=alert.percent)


def _bucket_of(alert: Alert) -> Bucket | None:
    kind, _, number = alert.period.partition(":")
    return Bucket.objects.get(organization_id=alert.organization_id, pk=number) if kind == "bucket" else None
