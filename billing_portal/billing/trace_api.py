"""Trace a call for programs: what became of its id, from arrival to payment."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.request import Request

from accounts.models import Organization
from accounts.problems import Problem
from billing_portal.billing import call_traces
from billing_portal.billing.call_traces import Trace
from billing_portal.billing.models import Invoice
from usage.api import description, queries
from usage.api.answers import Currency, Micros, PriceVersionName
from usage.api.keyed_views import KeyedView, answer, organization_of
from usage.intake_log import Copies
from usage.models import Rejection

_UNKNOWN = (
    "Nothing is known under this id: it was neither recorded nor rejected, as far as the log goes back. Ids are "
    "compared letter by letter. If the call is over, the vendor has not sent it for this organization."
)
Month = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]


class TraceRejection(msgspec.Struct, frozen=True):
    """That the call was refused: why the last time, and how often."""

    times: int
    first_at: datetime
    last_at: datetime
    field: str
    reason: str


class TraceCopies(msgspec.Struct, frozen=True):
    """That further copies arrived, which changed nothing."""

    times: int
    first_at: datetime | None
    last_at: datetime | None


class TraceReceived(msgspec.Struct, frozen=True):
    """When the call was recorded, and by which number its source counted it."""

    at: datetime | None
    source: str
    source_sequence: int | None


class TraceRated(msgspec.Struct, frozen=True):
    """What the call costs, and by which prices."""

    amount_micros: Micros
    currency: Currency
    price_version: PriceVersionName


class TraceCredit(msgspec.Struct, frozen=True):
    """What one credit paid."""

    kind: str
    micros: Micros


class TraceFunded(msgspec.Struct, frozen=True):
    """When the call was settled, and who pays: credits, and what is accrued to the card."""

    at: datetime
    sequence: int
    billed_month: Month
    credits: list[TraceCredit]
    accrued_micros: Micros


class TraceReport(msgspec.Struct, frozen=True):
    """The part of the call that is in one report to a Stripe meter."""

    component: str
    micros: Micros
    state: str
    accepted_at: datetime | None


class TraceReported(msgspec.Struct, frozen=True):
    """The reports that the call is in; `at` is when the last of them was accepted."""

    batch: int
    at: datetime | None
    reports: list[TraceReport]


class TraceLine(msgspec.Struct, frozen=True):
    """The part of the call that stands in one line of the invoice."""

    position: int
    component: str
    micros: Micros


class TraceInvoiced(msgspec.Struct, frozen=True):
    """The invoice that the call stands on. While it is a draft it has no number and is not final."""

    number: str
    state: str
    finalized_at: datetime | None
    paid_at: datetime | None
    lines: list[TraceLine]


class TraceInterim(msgspec.Struct, frozen=True):
    """The invoice that billed what the call accrued before its month ended."""

    number: str
    state: str
    finalized_at: datetime | None
    paid_at: datetime | None


class TraceCorrection(msgspec.Struct, frozen=True):
    """A later revision of the call: when and why it was made, and what it costs less than the one before."""

    revision: int
    at: datetime
    origin: Annotated[str, Meta(description="`api`, `staff`, or `backfill` where prices were changed.")]
    reason: str
    given_back_micros: Micros


class CallTrace(msgspec.Struct, frozen=True):
    """What became of one id; what has not happened is null. `unpriced` names the products that lack a price.

    `invoiced` is the month's own invoice; what an `interim` one billed is taken off there. Of a call with `corrections`
    the rest is the way of its newest revision, of which only what it costs more is funded, reported and invoiced.
    """

    call_id: str
    organization: str
    stage: Annotated[
        Literal["rejected", "received", "rated", "funded", "reported", "invoiced", "paid"],
        Meta(description="The last thing that happened to it."),
    ]
    rejected: TraceRejection | None
    received: TraceReceived | None
    duplicates: TraceCopies | None
    conflicts: TraceCopies | None
    corrections: list[TraceCorrection]
    unpriced: list[str]
    rated: TraceRated | None
    funded: TraceFunded | None
    reported: TraceReported | None
    interim: TraceInterim | None
    invoiced: TraceInvoiced | None


class CallTraceView(KeyedView):
    """What became of one id."""

    @description.reads("trace_call", query=queries.OrganizationQuery, answer=CallTrace)
    def get(self, request: Request, call_id: str) -> HttpResponse:
        """Trace a call from its arrival to its payment; also one that was only ever rejected."""
        query = queries.read(request.query_params, queries.OrganizationQuery)
        organization = organization_of(request, query)
        trace = call_traces.trace(organization.pk, call_id)
        if trace.is_unknown:
            raise Problem(HTTPStatus.NOT_FOUND, "not-found", "Nothing was found here", _UNKNOWN)
        return answer(_call_trace(organization, trace))


def _call_trace(organization: Organization, trace: Trace) -> CallTrace:
    received = TraceReceived(trace.received_at, trace.source, trace.source_sequence) if trace.call else None
    return CallTrace(
        call_id=trace.call_id,
        organization=organization.reference,
        stage=trace.stage,  # type: ignore[arg-type]
        rejected=_rejection(trace.intake.rejection),
        received=received,
        duplicates=_copies(trace.intake.duplicates),
        conflicts=_copies(trace.intake.conflicts),
        corrections=[
            TraceCorrection(each.revision, each.recorded_at, each.origin, each.reason, each.given_back_micros)
            for each in trace.corrections
        ],
        unpriced=trace.unrated.missing if trace.unrated else [],
        rated=_rated(trace),
        funded=_funded(trace),
        reported=_reported(trace),
        interim=_interim(trace.interim),
        invoiced=_invoiced(trace),
    )


def _rejection(found: Rejection | None) -> TraceRejection | None:
    if found is None:
        return None
    return TraceRejection(found.times, found.first_received_at, found.last_received_at, found.field, found.reason)


def _copies(copies: Copies) -> TraceCopies | None:
    return TraceCopies(copies.times, copies.first_at, copies.last_at) if copies.times else None


def _rated(trace: Trace) -> TraceRated | None:
    if trace.charge is None:
        return None
    version = trace.charge.price_version
    name = PriceVersionName(version.book.reference, version.number)
    return TraceRated(trace.charge.price_micros, trace.charge.currency, name)


def _funded(trace: Trace) -> TraceFunded | None:
    if trace.charge is None or trace.charge.sequence is None or trace.settlement is None or trace.funding is None:
        return None
    return TraceFunded(
        at=trace.settlement.settled_at,
        sequence=trace.charge.sequence,
        billed_month=f"{trace.charge.billed_month:%Y-%m}",
        credits=[TraceCredit(grant.kind, micros) for grant, micros in trace.funding.grants],
        accrued_micros=trace.funding.accrued_micros,
    )


def _reported(trace: Trace) -> TraceReported | None:
    if trace.batch is None:
        return None
    reports = [
        TraceReport(part.report.component, part.micros, part.report.state, part.report.accepted_at)
        for part in trace.reported
    ]
    return TraceReported(trace.batch.pk, trace.reported_at, reports)


def _interim(invoice: Invoice | None) -> TraceInterim | None:
    if invoice is None:
        return None
    return TraceInterim(invoice.number, invoice.state, invoice.finalized_at, invoice.paid_at)


def _invoiced(trace: Trace) -> TraceInvoiced | None:
    invoice = trace.invoice
    if invoice is None:
        return None
    lines = [TraceLine(part.line.position, part.line.component, part.micros) for part in trace.invoiced]
    return TraceInvoiced(invoice.number, invoice.state, invoice.finalized_at, invoice.paid_at, lines)
