"""Prices in force: load them from a document, and find the version that prices a call.

All prices are kept in each process, read in one statement, and read again as soon as the database's stamp says that
any of them changed. Whoever rates inside a transaction calls `current`, which also keeps prices from changing until
its end.
"""

import itertools
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from accounts.models import Organization
from usage import price_documents
from usage.models import PRICE_LOCK, PriceBook, PriceRate, PriceVersion
from usage.price_documents import BookEntry, PriceDocumentInvalid, VersionEntry
from usage.snapshots import Rate, Snapshot, assemble


class VersionInForce(Exception):
    """A price version that is in force, or that charges rest on, cannot be edited; enter a new version."""

    def __init__(self, version: PriceVersion) -> None:
        super().__init__(f"{version} is in force since {version.starts_at:%Y-%m-%d %H:%M} UTC and cannot be changed.")
        self.version = version


class VersionBackdated(Exception):
    """A new version of a book that charges rest on must start in the future: what was charged keeps its price."""

    def __init__(self, book: str, starts_at: datetime) -> None:
        super().__init__(f"{book} has priced calls, and a new version cannot start at {starts_at:%Y-%m-%d %H:%M} UTC.")
        self.book = book
        self.starts_at = starts_at


@dataclass(frozen=True, slots=True)
class RateRef:
    """What a line of a charge refers to."""

    component: str
    product: str
    label: str
    unit: str
    rate_micros: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """All prices at one state of the database: the versions of each book, oldest first."""

    stamp: UUID | None
    defaults: dict[str, list[Snapshot]]
    own: dict[int, list[Snapshot]]
    refs: dict[int, RateRef]
    versions: dict[int, Snapshot]

    def candidates(self, *, organization_id: int, currency: str, at: datetime, now: datetime) -> tuple[Snapshot, ...]:
        """Return the versions that may price a call which started at `at`: the first that has its products does.

        That is the version in force at `at`, then the later ones of the same book that are in force by `now`, so that
        a call with a product or from a time that had no price is priced by the first version that covers it. The book
        is the organization's own if it was in force at `at`, else the public one of its currency.
        """
        for versions in (self.own.get(organization_id, ()), self.defaults.get(currency, ())):
            started = bisect_right(versions, at, key=_starts_at)
            if started:
                latest = bisect_right(versions, now, key=_starts_at)
                return tuple(versions[started - 1 : max(started, latest)])
        return tuple(version for version in self.defaults.get(currency, ()) if version.starts_at <= now)


_starts_at = attrgetter("starts_at")
_cached: Catalog | None = None


def load(document: dict[str, Any], *, now: datetime) -> list[PriceVersion]:
    """Store a parsed price document, as `price_documents` describes it; return the versions made or changed.

    All or nothing; the same content again changes nothing. Raises PriceDocumentInvalid naming the place,
    VersionInForce for changed content of a version in force, VersionBackdated for a new one that starts in the past
    of a book by which calls were charged.
    """
    books = price_documents.read(document).books
    with transaction.atomic():
        changed = []
        for position, entry in enumerate(books):
            book = _load_book(f"books[{position}]", entry)
            versions = [_load_version(book, version, now=now) for version in entry.versions]
            changed += [version for version in versions if version]
    return changed


def editable(version: PriceVersion, now: datetime) -> bool:
    """Say whether a version may still be changed: it is not in force yet, and no charge rests on it."""
    return version.starts_at > now and not version.is_used


def snapshot_for(organization: Organization, at: datetime) -> Snapshot | None:
    """Return the prices in force for an organization at `at`, or None: its own book's first, else its currency's."""
    found = current().candidates(organization_id=organization.pk, currency=organization.currency, at=at, now=at)
    return found[0] if found else None


def snapshot(version_id: int) -> Snapshot:
    """Return one version's prices, also of a book that is no longer public; KeyError if there is none."""
    return _catalog().versions[version_id]


def public(currency: str, *, at: datetime) -> list[Snapshot]:
    """Return the prices of the currency's public books that are in force at `at`."""
    newest: dict[str, Snapshot] = {}
    for version in _catalog().defaults.get(currency, []):
        if version.starts_at <= at:
            newest[version.book] = version
    return list(newest.values())


def rate_refs(rate_ids: Collection[int]) -> dict[int, RateRef]:
    """Return what the rates are; KeyError for one that does not exist."""
    refs = _catalog().refs
    return {rate_id: refs[rate_id] for rate_id in rate_ids}


def currencies() -> list[str]:
    """Return the currencies with a public price book, sorted: those in which an organization can be opened."""
    return sorted(PriceBook.objects.filter(is_default=True).values_list("currency", flat=True))


def current() -> Catalog:
    """Return all prices as they are now. Inside a transaction they cannot change until its end."""
    with connection.cursor() as cursor:
        # Two statements, of which the second sees what was committed while the first waited; sent at once.
        cursor.execute(f"SELECT pg_advisory_xact_lock_shared(%s); {_STAMP}", [PRICE_LOCK])
        cursor.nextset()
        return _known(cursor.fetchone())


def _catalog() -> Catalog:
    with connection.cursor() as cursor:
        cursor.execute(_STAMP)
        return _known(cursor.fetchone())


_STAMP = "SELECT stamp FROM usage_pricestamp"


def _known(row: tuple[UUID] | None) -> Catalog:
    """Return this process's copy, or a fresh one if the stamp differs. Without a stamp nothing is known: read."""
    global _cached  # noqa: PLW0603 - one copy a process
    stamp = row[0] if row else None
    catalog = _cached
    if catalog is None or stamp is None or catalog.stamp != stamp:
        catalog = _cached = _read_catalog(stamp)
    return catalog


_CATALOG = """
    SELECT v.id, b.reference, v.number, b.currency, v.starts_at, v.grace_ms, v.free_ms, v.token_threshold,
           b.organization_id, b.is_default,
           r.id, r.component, r.product, r.label, r.unit, r.rate_micros, r.minimum_ms, r.increment_ms
    FROM usage_pricebook b
    JOIN usage_priceversion v ON v.book_id = b.id
    JOIN usage_pricerate r ON r.version_id = v.id
    ORDER BY b.id, v.starts_at, v.id, r.id
"""
_VERSION_COLUMNS = 8
_RATE_STARTS = 10


def _read_catalog(stamp: UUID | None) -> Catalog:
    """Read all books in one statement, so that the copy is of one moment. A version without rates is not there yet."""
    with connection.cursor() as cursor:
        cursor.execute(_CATALOG)
        rows = cursor.fetchall()
    catalog = Catalog(stamp=stamp, defaults={}, own={}, refs={}, versions={})
    for version, group in itertools.groupby(rows, key=lambda row: row[:_RATE_STARTS]):
        rates = [Rate(*row[_RATE_STARTS:]) for row in group]
        snapshot = assemble(rates, *version[:_VERSION_COLUMNS])
        organization_id, is_default = version[_VERSION_COLUMNS:]
        catalog.versions[snapshot.version_id] = snapshot
        if organization_id is not None:
            catalog.own.setdefault(organization_id, []).append(snapshot)
        elif is_default:
            catalog.defaults.setdefault(snapshot.currency, []).append(snapshot)
        for rate in rates:
            catalog.refs[rate.id] = RateRef(rate.component, rate.product, rate.label, rate.unit, rate.rate_micros)
    return catalog


def _load_book(path: str, entry: BookEntry) -> PriceBook:
    """Return the book of this reference, made or brought up to the entry."""
    organization = None
    if entry.organization is not None:
        organization = Organization.objects.filter(reference=entry.organization).first()
        if organization is None:
            raise PriceDocumentInvalid(f"{path}.organization", f"There is no organization {entry.organization}.")
        if organization.currency != entry.currency:
            raise PriceDocumentInvalid(
                f"{path}.currency", f"{entry.organization} is billed in {organization.currency}."
            )
    book = PriceBook.objects.select_for_update().filter(reference=entry.reference).first()
    if book and (book.currency, book.organization_id) != (entry.currency, organization and organization.pk):
        raise PriceDocumentInvalid(path, "The currency and the organization of a book are fixed.")
    rival = PriceBook.objects.filter(currency=entry.currency, is_default=True).exclude(reference=entry.reference)
    if entry.default and rival.exists():
        raise PriceDocumentInvalid(f"{path}.default", f"{entry.currency} has another public book.")
    book = book or PriceBook(reference=entry.reference, currency=entry.currency, organization=organization)
    if not book.pk or (book.name, book.is_default) != (entry.name, entry.default):
        book.name, book.is_default = entry.name, entry.default
        book.save()
    return book


def _load_version(book: PriceBook, entry: VersionEntry, *, now: datetime) -> PriceVersion | None:
    """Make or change the version, and return it; None if it is there as the entry says."""
    version = PriceVersion.objects.filter(book=book, number=entry.number).first()
    if version is None:
        if entry.starts_at <= now and book.versions.filter(is_used=True).exists():
            raise VersionBackdated(book.reference, entry.starts_at)
        version = PriceVersion(book=book, number=entry.number, created_at=now)
    elif _content_of(version) == _content_of_entry(entry):
        return None
    elif not editable(version, now):
        raise VersionInForce(version)
    for name in _VERSION_FIELDS:
        setattr(version, name, getattr(entry, name))
    version.save()
    version.rates.all().delete()
    PriceRate.objects.bulk_create(
        PriceRate(version=version, **{name: getattr(rate, name) for name in _RATE_FIELDS}) for rate in entry.rates
    )
    return version


_VERSION_FIELDS = ("starts_at", "grace_ms", "free_ms", "token_threshold", "note")
_RATE_FIELDS = ("product", "component", "unit", "rate_micros", "label", "minimum_ms", "increment_ms")


def _content_of(version: PriceVersion) -> tuple[Any, ...]:
    rates = sorted(version.rates.values_list(*_RATE_FIELDS))
    return (*(getattr(version, name) for name in _VERSION_FIELDS), rates)


def _content_of_entry(entry: VersionEntry) -> tuple[Any, ...]:
    rates = sorted(tuple(getattr(rate, name) for name in _RATE_FIELDS) for rate in entry.rates)
    return (*(getattr(entry, name) for name in _VERSION_FIELDS), rates)
