"""Price books as people write them: TOML or JSON, read into plain values with errors that name the place.

[[books]]
reference = "list-usd"              # a slug, unique
name = "List prices"
currency = "USD"
default = true                      # the public book of its currency; or: organization = "acme"

[[books.versions]]
number = 1
starts_at = 2026-01-01T00:00:00Z
token_threshold = 3500              # optional, as are grace_ms, free_ms and note

[[books.versions.rates]]
product = "elevenlabs_tts"
component = "voice"                 # platform, voice, llm, telephony, add_on, per_call, token_surcharge
unit = "minute"                     # minute, second, call, thousand_tokens, surcharge
rate = "0.07"                       # major units of the currency, in quotes: at most 6 decimals
label = "ElevenLabs"                # optional, as are minimum_ms and increment_ms (1000)
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, TypeAlias

import msgspec

from usage.models import Component, PriceRate
from usage.money import MICROS_PER_UNIT
from usage.snapshots import Rate, Snapshot, assemble

Unit: TypeAlias = PriceRate.Unit
# A hundred thousand major units: with the limits on a call's facts, every charge then fits its column.
MAX_RATE_MICROS = 10**11

Slug = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+$", min_length=1, max_length=64)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class PriceDocumentInvalid(Exception):
    """A price document does not say what it must; `path` names the place, as in `books[0].versions[0].starts_at`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class RateEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    product: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    component: Component
    unit: Unit
    rate: str = "0"
    label: Annotated[str, msgspec.Meta(max_length=80)] = ""
    minimum_ms: Milliseconds = 0
    increment_ms: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1000

    @property
    def rate_micros(self) -> int:
        """The rate in micros. Raises ValueError for what is not a whole, non-negative number of them."""
        try:
            micros = Decimal(self.rate) * MICROS_PER_UNIT
        except InvalidOperation:
            raise ValueError(f"'{self.rate}' is not a decimal number.") from None
        if not micros.is_finite() or micros != int(micros):
            raise ValueError(f"{self.rate} has more than six decimals.")
        if not 0 <= micros <= MAX_RATE_MICROS:
            raise ValueError(f"{self.rate} is not between 0 and {MAX_RATE_MICROS // MICROS_PER_UNIT}.")
        return int(micros)


class VersionEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    starts_at: datetime
    rates: Annotated[list[RateEntry], msgspec.Meta(min_length=1)]
    grace_ms: Milliseconds = 0
    free_ms: Milliseconds = 0
    token_threshold: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 3500
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""


class BookEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    reference: Slug
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    versions: Annotated[list[VersionEntry], msgspec.Meta(min_length=1)]
    default: bool = False
    organization: str | None = None


class PriceDocument(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    books: Annotated[list[BookEntry], msgspec.Meta(min_length=1)]


def read(document: dict[str, Any]) -> PriceDocument:
    """Check a parsed document and return it typed. Raises PriceDocumentInvalid, which names the first wrong place."""
    try:
        read = msgspec.convert(document, PriceDocument)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise PriceDocumentInvalid(path.strip("`").lstrip("."), reason) from None
    _refuse_repeated("books", (book.reference for book in read.books))
    for position, book in enumerate(read.books):
        _check_book(f"books[{position}]", book)
    return read


def version(document: dict[str, Any]) -> VersionEntry:
    """Check one version that has no number yet, and return it typed, as number 1. Raises PriceDocumentInvalid."""
    try:
        read = msgspec.convert({**document, "number": 1}, VersionEntry)
        _check_version("", read)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise PriceDocumentInvalid(path.strip("`").lstrip("."), reason) from None
    except PriceDocumentInvalid as error:
        raise PriceDocumentInvalid(error.path.lstrip("."), error.reason) from None
    return read


def snapshots(document: dict[str, Any]) -> list[Snapshot]:
    """Return the document's versions as they would price calls, without storing them; ids count from 1."""
    return [
        snapshot(book, version, position * 1000)
        for position, (book, version) in enumerate(
            (book, version) for book in read(document).books for version in book.versions
        )
    ]


def snapshot(book: BookEntry, version: VersionEntry, offset: int = 0) -> Snapshot:
    """Return one version of a document as plain values; its rates' ids count from `offset` + 1."""
    rates = [
        Rate(
            id=offset + number,
            component=entry.component.value,
            product=entry.product,
            label=entry.label,
            unit=entry.unit.value,
            rate_micros=entry.rate_micros,
            minimum_ms=entry.minimum_ms,
            increment_ms=entry.increment_ms,
        )
        for number, entry in enumerate(version.rates, start=1)
    ]
    limits = (version.grace_ms, version.free_ms, version.token_threshold)
    starts_at = version.starts_at.astimezone(UTC)
    return assemble(rates, offset + 1, book.reference, version.number, book.currency, starts_at, *limits)


def _check_book(path: str, book: BookEntry) -> None:
    if book.default and book.organization is not None:
        raise PriceDocumentInvalid(f"{path}.organization", "The public book of a currency belongs to no organization.")
    _refuse_repeated(f"{path}.versions", (version.number for version in book.versions))
    _refuse_repeated(f"{path}.versions", (version.starts_at for version in book.versions))
    for position, version in enumerate(book.versions):
        _check_version(f"{path}.versions[{position}]", version)


def _check_version(path: str, version: VersionEntry) -> None:
    if version.starts_at.tzinfo is None:
        raise PriceDocumentInvalid(f"{path}.starts_at", "The instant needs an offset, as in 2026-01-01T00:00:00Z.")
    _refuse_repeated(f"{path}.rates", (rate.product for rate in version.rates))
    for position, rate in enumerate(version.rates):
        _check_rate(f"{path}.rates[{position}]", rate)
    if sum(rate.unit == Unit.SURCHARGE for rate in version.rates) > 1:
        raise PriceDocumentInvalid(f"{path}.rates", "A version has at most one rate of the unit surcharge.")


def _check_rate(path: str, rate: RateEntry) -> None:
    if (rate.unit == Unit.SURCHARGE) != (rate.component == Component.TOKEN_SURCHARGE):
        raise PriceDocumentInvalid(f"{path}.unit", "The unit surcharge and the component token_surcharge go together.")
    try:
        rate_micros = rate.rate_micros
    except ValueError as error:
        raise PriceDocumentInvalid(f"{path}.rate", str(error)) from None
    if rate.unit == Unit.SURCHARGE and rate_micros:
        raise PriceDocumentInvalid(f"{path}.rate", "A surcharge is billed at the language model's rate.")


def _refuse_repeated(path: str, keys: Iterable[object]) -> None:
    repeated = [key for key, times in Counter(keys).items() if times > 1]
    if repeated:
        raise PriceDocumentInvalid(path, f"{repeated[0]} appears more than once.")
