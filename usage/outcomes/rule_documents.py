"""Outcome rules as people write them: TOML or JSON, read into plain values with errors that name the place.

[[rules]]
book = "list-usd"                     # the price book they belong to
number = 1
starts_at = 2026-01-01T00:00:00Z      # for conversations that begin from then on
window_hours = 24                     # silence after an answer that makes a resolution assumed
precedence = ["qualification", "disqualification", "procedure_handoff", "resolution"]
confirming_replies = ["affirmative"]  # optional, as is all that follows; these are the defaults
reversing_replies = ["needs_help"]
confirming_rating = 4                 # of 1 to 5; this or more. Left out: no rating confirms
reversing_rating = 2                  # this or less. Left out: no rating reverses
escalation_reverses = true
closing_decides = false
note = ""

[rules.prices]                        # major units, in quotes: at most 6 decimals
resolution = "0.99"
"""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec

from usage.models.outcomes import OutcomeType, ReplyKind
from usage.money import MICROS_PER_UNIT
from usage.price_documents import MAX_RATE_MICROS, PriceDocumentInvalid, Slug

Rating = Annotated[int, msgspec.Meta(ge=1, le=5)]


class RulesEntry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    book: Slug
    number: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    starts_at: datetime
    precedence: Annotated[list[OutcomeType], msgspec.Meta(min_length=1)]
    prices: dict[OutcomeType, str]
    window_hours: Annotated[int, msgspec.Meta(ge=1, le=24 * 90)] = 24
    confirming_replies: tuple[ReplyKind, ...] = (ReplyKind.AFFIRMATIVE,)
    reversing_replies: tuple[ReplyKind, ...] = (ReplyKind.NEEDS_HELP,)
    confirming_rating: Rating | None = None
    reversing_rating: Rating | None = None
    escalation_reverses: bool = True
    closing_decides: bool = False
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""

    @property
    def starts_at_utc(self) -> datetime:
        """The start in UTC."""
        return self.starts_at.astimezone(UTC)


class RulesDocument(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    rules: Annotated[list[RulesEntry], msgspec.Meta(min_length=1)]


def read(document: dict[str, Any]) -> list[RulesEntry]:
    """Check a parsed document and return its versions. Raises PriceDocumentInvalid naming the first wrong place."""
    try:
        entries = msgspec.convert(document, RulesDocument).rules
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        raise PriceDocumentInvalid(path.strip("`").lstrip("."), reason) from None
    for position, entry in enumerate(entries):
        _check(f"rules[{position}]", entry)
    return entries


def entry(document: dict[str, Any]) -> RulesEntry:
    """Check one version, given without the number that it will get, and return it as number 1.

    Raises PriceDocumentInvalid naming the wrong field.
    """
    try:
        return read({"rules": [{"number": 1, **document}]})[0]
    except PriceDocumentInvalid as error:
        raise PriceDocumentInvalid(error.path.removeprefix("rules[0]").lstrip("."), error.reason) from None


def micros(entry: RulesEntry) -> dict[str, int]:
    """Return the prices of a checked version, in micros."""
    return {str(outcome): int(Decimal(price) * MICROS_PER_UNIT) for outcome, price in entry.prices.items()}


def _check(path: str, entry: RulesEntry) -> None:
    if entry.starts_at.tzinfo is None:
        raise PriceDocumentInvalid(f"{path}.starts_at", "Expected an instant with an offset.")
    if len(set(entry.precedence)) != len(entry.precedence):
        raise PriceDocumentInvalid(f"{path}.precedence", "Each type stands once.")
    if missing := set(entry.precedence) - set(entry.prices):
        raise PriceDocumentInvalid(f"{path}.prices", f"There is no price for {', '.join(sorted(missing))}.")
    if both := set(entry.confirming_replies) & set(entry.reversing_replies):
        raise PriceDocumentInvalid(f"{path}.reversing_replies", f"{', '.join(sorted(both))} confirms already.")
    if (entry.reversing_rating or 0) >= (entry.confirming_rating or 6):
        raise PriceDocumentInvalid(f"{path}.reversing_rating", "A rating cannot confirm and reverse.")
    for outcome, price in entry.prices.items():
        _check_price(f"{path}.prices.{outcome}", price)


def _check_price(path: str, price: str) -> None:
    try:
        exact = Decimal(price) * MICROS_PER_UNIT
    except InvalidOperation:
        raise PriceDocumentInvalid(path, f"'{price}' is not a decimal number.") from None
    if not exact.is_finite() or exact != int(exact):
        raise PriceDocumentInvalid(path, f"{price} has more than six decimals.")
    if not 0 <= exact <= MAX_RATE_MICROS:
        raise PriceDocumentInvalid(path, f"{price} is not between 0 and {MAX_RATE_MICROS // MICROS_PER_UNIT}.")
