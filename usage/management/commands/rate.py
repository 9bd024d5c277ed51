"""Print what calls in a file cost, line by line, without recording them."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import clock
from accounts.models import Organization
from usage import call_files, call_objects, price_documents, prices, pricing
from usage.call_items import FileUnreadable
from usage.call_objects import CallObject, CallRejected
from usage.models import PriceBook, PriceRate
from usage.money import MICROS_PER_UNIT
from usage.price_documents import PriceDocumentInvalid
from usage.prices import Catalog
from usage.pricing import Payer
from usage.rating import AmountOutOfRange, Line, Rating
from usage.snapshots import Rate, Snapshot

Unit = PriceRate.Unit
# A call of the future can be priced, only not recorded.
_ANY_TIME = datetime(9000, 1, 1, tzinfo=UTC)
_UNITS = {Unit.CALL: "call", Unit.THOUSAND_TOKENS: "tokens"}


@dataclass(frozen=True, slots=True)
class PriceSource:
    """The prices to use: those of one payer in a catalog, with the versions in force by `now`."""

    catalog: Catalog
    payer: Payer
    now: datetime


class Command(BaseCommand):
    help = "Print the price lines of the calls in a file, without recording them; exit 1 if any has no price."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="JSON array, one object or JSON lines; also .gz or .xz")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--prices", type=Path, metavar="FILE", help="a price document; else what is stored")
        source.add_argument("--organization", metavar="REF", help="the prices of this organization")
        parser.add_argument("--book", metavar="REF", help="this price book; else the first public one")
        parser.add_argument("--json", action="store_true", help="one JSON object a line for each call")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        source = _source(options)
        show = self._show_json if options["json"] else self._show_table
        failures = 0
        try:
            with call_files.open_file(file) as opened:
                for item in opened.items:
                    try:
                        call = call_objects.decode(item.raw, now=_ANY_TIME)
                        show(call, *_price(call, source))
                    except (CallRejected, CommandError) as error:
                        failures += 1
                        self.stderr.write(f"{file}, line {item.line}: {error}")
        except FileUnreadable as error:
            raise CommandError(f"{file}, {error}") from error
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}.") from error
        if failures:
            raise CommandError(f"{failures:,} of the calls could not be rated.")

    def _show_json(self, call: CallObject, snapshot: Snapshot, rating: Rating) -> None:
        lines = [
            {
                "component": line.component,
                "product": line.product,
                "quantity": line.quantity,
                "unit": line.unit,
                "rate_micros": _rate_micros(line, snapshot, rating),
                "micros": line.micros,
            }
            for line in rating.lines
        ]
        answer = {
            "call_id": call.call_id,
            "book": snapshot.book,
            "version": snapshot.number,
            "currency": snapshot.currency,
            "lines": lines,
            "amount_micros": rating.amount_micros,
        }
        self.stdout.write(json.dumps(answer))

    def _show_table(self, call: CallObject, snapshot: Snapshot, rating: Rating) -> None:
        heading = ("product", "billable", "rate", "micros", snapshot.currency)
        rows = [_cells(line, snapshot, rating) for line in rating.lines]
        total = ("total", "", "", f"{rating.amount_micros:,}", _decimal(rating.amount_micros))
        widths = [max(map(len, column)) for column in zip(heading, *rows, total, strict=True)]
        self.stdout.write(f"{call.call_id}  {snapshot.book} version {snapshot.number}")
        for row in (heading, *rows, total):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            self.stdout.write("  " + "  ".join(cells))
        self.stdout.write("")


def _price(call: CallObject, source: PriceSource) -> tuple[Snapshot, Rating]:
    """Return the version and the rating. Raises CommandError with the reason if there is none."""
    try:
        snapshot, rating, missing = pricing.price(source.catalog, source.payer, call.facts, call.started_at, source.now)
    except AmountOutOfRange:
        raise CommandError(f"{call.call_id} costs more than an account can hold.") from None
    if snapshot is None or rating is None:
        reason = f"No price for {', '.join(missing)}." if missing else "No price version is in force."
        raise CommandError(f"{call.call_id}: {reason}")
    return snapshot, rating


def _source(options: dict[str, Any]) -> PriceSource:
    if options["prices"]:
        versions = [version for version in _read(options["prices"]) if options["book"] in (None, version.book)]
        if not versions:
            raise CommandError(f"{options['prices']} has no book {options['book']}.")
        return _source_of(versions, versions[0].book, now=_ANY_TIME)
    with transaction.atomic():
        catalog = prices.current()
    if options["organization"]:
        organization = Organization.objects.filter(reference=options["organization"]).first()
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']}.")
        return PriceSource(catalog, Payer(organization.pk, organization.currency), clock.now())
    stored = [version for book in (*catalog.defaults.values(), *catalog.own.values()) for version in book]
    public = next(iter(catalog.defaults.values()), None)
    reference: str | None = options["book"] or (public[0].book if public else None)
    if reference is None:
        raise CommandError("No prices are stored. Load some (manage.py load_prices), or name a file with --prices.")
    if not any(version.book == reference for version in stored):
        known = ", ".join(PriceBook.objects.values_list("reference", flat=True)) or "none"
        raise CommandError(f"There is no price book {reference} with rates. There are: {known}.")
    return _source_of(stored, reference, now=clock.now())


def _source_of(versions: list[Snapshot], book: str, *, now: datetime) -> PriceSource:
    """Return a source of one book's versions."""
    own = sorted((version for version in versions if version.book == book), key=lambda version: version.starts_at)
    currency = own[0].currency
    return PriceSource(
        Catalog(stamp=None, defaults={currency: own}, own={}, refs={}, versions={}), Payer(0, currency), now
    )


def _read(path: Path) -> list[Snapshot]:
    try:
        text = path.read_text()
        return price_documents.snapshots(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
    except (OSError, ValueError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
    except PriceDocumentInvalid as error:
        raise CommandError(f"{path}: {error}") from error


def _cells(line: Line, snapshot: Snapshot, rating: Rating) -> tuple[str, ...]:
    per = {Unit.CALL: "call", Unit.THOUSAND_TOKENS: "1,000 tokens", Unit.SECOND: "s"}.get(Unit(line.unit), "min")
    quantity = f"{line.quantity:,} {_UNITS[Unit(line.unit)]}" if line.unit in _UNITS else f"{_seconds(line.quantity)} s"
    rate = f"{_decimal(_rate_micros(line, snapshot, rating))} / {per}"
    return line.product, quantity, rate, f"{line.micros:,}", _decimal(line.micros)


def _rate_micros(line: Line, snapshot: Snapshot, rating: Rating) -> int:
    """Return the rate of a line; a surcharge is at the language models' rates for a minute."""
    if line.unit != Unit.SURCHARGE:
        return snapshot.rates[line.product].rate_micros
    return sum(rate.micros_per_minute for rate in _language_models(snapshot, rating))


def _language_models(snapshot: Snapshot, rating: Rating) -> Iterator[Rate]:
    for line in rating.lines:
        if line.component == "llm" and line.unit != Unit.SURCHARGE:
            yield snapshot.rates[line.product]


def _seconds(ms: int) -> str:
    return f"{ms // 1000:,}" if ms % 1000 == 0 else f"{ms // 1000:,}.{ms % 1000:03d}"


def _decimal(micros: int) -> str:
    """Return micros in major units with six decimals, so that a column lines up."""
    return f"{micros // MICROS_PER_UNIT:,}.{micros % MICROS_PER_UNIT:06d}"
