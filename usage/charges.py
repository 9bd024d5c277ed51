"""Charges between rating and the ledger: which wait, how they are numbered, and what a charge's lines say."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any, NamedTuple

from django.db import connection

from usage import periods, prices, rollups
from usage.models import Charge


class AlreadySettled(Exception):
    """Some of the charges have a number already: they were read without the organization's lock."""


class WaitingCharge(NamedTuple):
    """A charge without a number. The three arrays are parallel, a place for each line."""

    id: int
    started_at: datetime
    duration_ms: int
    amount_micros: int
    rate_ids: list[int]
    quantities: list[int]
    line_micros: list[int]


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One line of a charge; `quantity` is milliseconds, calls or tokens, as the unit says."""

    component: str
    product: str
    label: str
    unit: str
    rate_micros: int
    quantity: int
    micros: int


_WAITING = """
    SELECT ch.id, ch.started_at, c.duration_ms, ch.amount_micros, ch.rate_ids, ch.quantities, ch.line_micros
    FROM usage_charge ch JOIN usage_call c ON c.id = ch.call_id
    WHERE ch.organization_id = %s AND ch.sequence IS NULL
    ORDER BY ch.started_at, ch.id LIMIT %s"""

_NUMBER = """
    UPDATE usage_charge ch SET sequence = %(before)s + numbered.position, billed_month = %(month)s, date = numbered.date
    FROM unnest(%(ids)s::bigint[], %(dates)s::date[]) WITH ORDINALITY AS numbered (id, date, position)
    WHERE ch.id = numbered.id AND ch.organization_id = %(organization)s AND ch.sequence IS NULL"""


def waiting(organization_id: int, limit: int) -> list[WaitingCharge]:
    """Return up to `limit` charges without a number, in the order of their calls' start."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [organization_id, limit])
        return [WaitingCharge(*row) for row in cursor.fetchall()]


def settle(
    *, organization_id: int, batch: Sequence[WaitingCharge], first_sequence: int, month: date, zone: tzinfo
) -> None:
    """Number the batch from `first_sequence` on in its order, bill it in `month`, and add it to the rollups.

    The caller holds the organization's lock, in a transaction, since before it read the batch; days are those of
    `zone`. Raises AlreadySettled, and then nothing has changed once the transaction is rolled back.
    """
    dates = [periods.day_of(charge.started_at, zone) for charge in batch]
    values: dict[str, Any] = {
        "before": first_sequence - 1,
        "month": month,
        "ids": [charge.id for charge in batch],
        "dates": dates,
        "organization": organization_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER, values)
        if cursor.rowcount != len(batch):
            raise AlreadySettled(f"Only {cursor.rowcount} of {len(batch)} charges waited.")
    rollups.fold(organization_id=organization_id, batch=batch, month=month, dates=dates)


def organizations_waiting(limit: int) -> list[int]:
    """Return up to `limit` organizations in which a charge waits."""
    waiting = Charge.objects.filter(sequence=None).order_by("organization_id")
    return list(waiting.values_list("organization_id", flat=True).distinct()[:limit])


def lines(charge: Charge) -> Iterator[ChargeLine]:
    """Yield the lines of a charge, in the order of rating; their micros add up to its amount."""
    refs = prices.rate_refs(charge.rate_ids)
    for rate_id, quantity, micros in zip(charge.rate_ids, charge.quantities, charge.line_micros, strict=True):
        ref = refs[rate_id]
        yield ChargeLine(
            component=ref.component,
            product=ref.product,
            label=ref.label,
            unit=ref.unit,
            rate_micros=ref.rate_micros,
            quantity=quantity,
            micros=micros,
        )
