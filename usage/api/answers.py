"""What the API answers, as typed values: they are what is sent and what its description is made of.

All amounts are whole micros, millionths of the major unit of the `currency` beside them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from accounts.models import Organization
from usage import calls, charges, ingestion, revisions, rollups
from usage.calls import ListedCall
from usage.events import EventAnswer
from usage.models import Call, Component, PriceVersion, UnratedCall

Micros = Annotated[int, Meta(description="Millionths of the currency's major unit.")]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]


class Recorded(msgspec.Struct, frozen=True):
    """What became of a request's items: how many of each kind, and each in its order."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    items: list[ingestion.Answer]


class EventsRecorded(msgspec.Struct, frozen=True):
    """What became of a request's events: how many of each kind, and each in its order."""

    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    items: list[EventAnswer]


class CallSummary(msgspec.Struct, frozen=True):
    """A call in a list. Without an amount no price covers it yet; without a sequence it is not settled yet.

    A corrected call has an item for each of its revisions, with what was charged of it, so that a list adds up to what
    was charged: `amount_micros` of a later `revision` is what it costs more than the one before, `given_back_micros`
    what it costs less. `is_corrected` says that there is a later one.
    """

    call_id: str
    started_at: datetime
    duration_ms: int
    status: str
    direction: str
    agent_id: str
    agent_name: str
    products: list[str]
    amount_micros: Micros | None
    currency: Currency
    sequence: int | None
    revision: int
    given_back_micros: Micros
    is_corrected: bool


class CallPage(msgspec.Struct, frozen=True):
    """Calls in the order asked for. `next` is the address of the following page, null on the last.

    Where few calls match a filter a page may be short, or empty, with more to come: follow `next` to the end.
    `archived` names months (UTC) of the span whose calls are put away: sums and invoices count them, no list has them.
    """

    items: list[CallSummary]
    next: Annotated[str, Meta(extra_json_schema={"format": "uri"})] | None
    archived: list[Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]]


class PriceLine(msgspec.Struct, frozen=True):
    """One product's part of the amount; `quantity` is milliseconds, calls or tokens, as the unit says."""

    component: str
    product: str
    label: str
    unit: str
    rate_micros: Micros
    quantity: int
    micros: Micros


class PriceVersionName(msgspec.Struct, frozen=True):
    """The prices that a call was rated by."""

    book: str
    number: int


class CallRevision(msgspec.Struct, frozen=True):
    """One revision of a call: why it was made, what the call costs in it, and what that changed.

    What it costs more than the revision before is charged, in the month in which it is billed; what it costs less is
    given back. Component by component, so both may be.
    """

    revision: int
    recorded_at: datetime | None
    origin: str | None
    reason: str
    price_micros: Micros | None
    charged_micros: Micros | None
    given_back_micros: Micros
    sequence: int | None
    billed_month: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")] | None


class CallRecord(msgspec.Struct, frozen=True):
    """One call: its facts, and what it costs, line by line, both as its newest revision has them.

    While no price covers it, `unpriced` names the products that lack one, and what follows from a price is null.
    Settlement gives the call its sequence and the month in which it is billed. `revisions` are all of a call that was
    corrected, the first one first.
    """

    call_id: str
    organization: str
    started_at: datetime
    ended_at: datetime | None
    duration_ms: int
    call_type: str
    status: str
    direction: str
    disconnection_reason: str
    agent_id: str
    agent_name: str
    from_number: str | None
    to_number: str | None
    metadata: dict[str, Any] | None
    products: list[str]
    llm_tokens: int
    llm_requests: int
    received_at: datetime | None
    unpriced: list[str]
    lines: list[PriceLine]
    amount_micros: Micros | None
    currency: Currency
    price_version: PriceVersionName | None
    sequence: int | None
    billed_month: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")] | None
    revision: int
    revisions: list[CallRevision]


class ImportReport(msgspec.Struct, frozen=True):
    """How far a file of calls is: waiting, recording, done, failed or cancelled, and what became of its items.

    `address` is where this is asked again, `refusals` that of a CSV file of what was not recorded. What stands before
    the place where a file failed is recorded, and `reason` names that place.
    """

    id: str
    address: Annotated[str, Meta(extra_json_schema={"format": "uri"})]
    name: str
    organization: str | None
    state: str
    percent_done: int
    items: int
    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    refusals: Annotated[str, Meta(extra_json_schema={"format": "uri"})] | None
    reason: str | None
    asked_at: datetime
    finished_at: datetime | None


class UsageDay(msgspec.Struct, frozen=True):
    """One day's settled usage in the organization's time zone: micros by component, and their sum."""

    date: date
    components: dict[str, Micros]
    micros: Micros


class UsageTotals(msgspec.Struct, frozen=True):
    """The settled usage of all days. Calls that were never connected count too."""

    calls: int
    duration_ms: int
    components: dict[str, Micros]
    micros: Micros


class UsageReport(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Settled usage from day to day, both included; days without usage are left out."""

    organization: str
    currency: Currency
    time_zone: str
    from_: date
    to: date
    days: list[UsageDay]
    totals: UsageTotals


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one parameter."""

    field: str
    reason: str


class ProblemDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 has it. Programs switch on `type`; people read the rest."""

    type: str
    title: str
    status: int
    detail: str | msgspec.UnsetType = msgspec.UNSET
    position: Annotated[int, Meta(description="The byte of the body.")] | msgspec.UnsetType = msgspec.UNSET
    index: Annotated[int, Meta(description="The item of the body, from 0.")] | msgspec.UnsetType = msgspec.UNSET
    items: Annotated[int, Meta(description="How many items were sent.")] | msgspec.UnsetType = msgspec.UNSET
    limit: Annotated[int, Meta(description="How many items, or bytes, may be sent.")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    scope: Annotated[str, Meta(description="The scope that the key lacks.")] | msgspec.UnsetType = msgspec.UNSET
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET
    refused: (
        Annotated[
            list[EventAnswer],
            Meta(description="The events that were refused, each with its reason. The others are recorded."),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


def recorded(answers: Sequence[ingestion.Answer]) -> Recorded:
    """Count the answers by kind."""
    return Recorded(*_counts(answers), items=list(answers))


def events_recorded(answers: Sequence[EventAnswer]) -> EventsRecorded:
    """Count the answers by kind, and put them in the order of the request."""
    return EventsRecorded(*_counts(answers), items=sorted(answers, key=lambda answer: answer.index))


def summaries(rows: Iterable[ListedCall], currency: str) -> list[CallSummary]:
    """Return rows of the list as they are shown."""
    return [
        CallSummary(
            call_id=row.call_id,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            status=row.status,
            direction=row.direction,
            agent_id=row.agent_id,
            agent_name=row.agent_name,
            products=row.products,
            amount_micros=row.amount_micros,
            currency=currency,
            sequence=row.sequence,
            revision=row.revision,
            given_back_micros=row.given_back_micros,
            is_corrected=row.is_corrected,
        )
        for row in rows
    ]


def call_record(call: Call) -> CallRecord:
    """Return one call with its price."""
    charge = charges.of(call)
    detail = calls.detail(call)
    unrated = None if charge else calls.unrated(call)
    return CallRecord(
        call_id=call.call_id,
        organization=call.organization.reference,
        started_at=call.started_at,
        ended_at=call.ended_at,
        duration_ms=call.duration_ms,
        call_type=call.kind.call_type,
        status=call.kind.status,
        direction=call.kind.direction,
        disconnection_reason=call.kind.disconnection_reason,
        agent_id=call.agent.reference,
        agent_name=call.agent.name,
        from_number=detail.from_number if detail else None,
        to_number=detail.to_number if detail else None,
        metadata=detail.metadata if detail else None,
        products=call.mix.products,
        llm_tokens=call.llm_tokens,
        llm_requests=call.llm_requests,
        received_at=_received_at(charge, unrated),
        unpriced=unrated.missing if unrated else [],
        lines=[_price_line(line) for line in charge.lines] if charge else [],
        amount_micros=charge.price_micros if charge else None,
        currency=call.organization.currency,
        price_version=_version_name(charge.price_version) if charge else None,
        sequence=charge.sequence if charge else None,
        billed_month=_month(charge),
        revision=call.revision,
        revisions=[_revision(each) for each in calls.all_revisions(call)] if call.revision > 1 else [],
    )


def _revision(call: Call) -> CallRevision:
    charge, made = charges.of(call), revisions.of(call)
    return CallRevision(
        revision=call.revision,
        recorded_at=made.recorded_at if made else charge.received_at if charge else None,
        origin=made.origin if made else None,
        reason=made.reason if made else "",
        price_micros=charge.price_micros if charge else None,
        charged_micros=charge.amount_micros if charge else None,
        given_back_micros=charge.given_back_micros if charge else 0,
        sequence=charge.sequence if charge else None,
        billed_month=_month(charge),
    )


def _month(charge: charges.Charge | None) -> str | None:
    return f"{charge.billed_month:%Y-%m}" if charge and charge.billed_month else None


def usage_report(
    organization: Organization, days: tuple[date, date], micros: dict[tuple[date, str], int], total: rollups.Total
) -> UsageReport:
    """Return the days that have usage, and the sums over them."""
    by_day: dict[date, dict[str, int]] = {}
    sums: Counter[str] = Counter()
    for (day, component), amount in micros.items():
        by_day.setdefault(day, dict.fromkeys(Component.values, 0))[component] += amount
        sums[component] += amount
    return UsageReport(
        organization=organization.reference,
        currency=organization.currency,
        time_zone=organization.time_zone,
        from_=days[0],
        to=days[1],
        days=[UsageDay(day, components, sum(components.values())) for day, components in sorted(by_day.items())],
        totals=UsageTotals(
            calls=total.calls,
            duration_ms=total.duration_ms,
            components={component: sums[component] for component in Component.values},
            micros=sums.total(),
        ),
    )


def _counts(answers: Sequence[ingestion.Answer] | Sequence[EventAnswer]) -> tuple[int, int, int, int]:
    counts = Counter(answer.status for answer in answers)
    kinds = (ingestion.RECORDED, ingestion.DUPLICATE, ingestion.CONFLICT, ingestion.REJECTED)
    recorded, duplicates, conflicts, rejected = (counts[kind] for kind in kinds)
    return recorded, duplicates, conflicts, rejected


def _received_at(charge: charges.Charge | None, unrated: UnratedCall | None) -> datetime | None:
    if charge is not None:
        return charge.received_at
    return unrated.noticed_at if unrated else None


def _version_name(version: PriceVersion) -> PriceVersionName:
    return PriceVersionName(version.book.reference, version.number)


def _price_line(line: charges.ChargeLine) -> PriceLine:
    return PriceLine(
        component=line.component,
        product=line.product,
        label=line.label,
        unit=line.unit,
        rate_micros=line.rate_micros,
        quantity=line.quantity,
        micros=line.micros,
    )
