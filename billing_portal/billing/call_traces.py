"""What became of a call: from its arrival to the invoice that was paid for it, by the vendor's id alone.

It reads what every package keeps and computes no money. An id that was only ever refused is known here as well.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from accounts.models import Organization
from billing_portal.billing import interims
from billing_portal.billing.models import Invoice, InvoiceLine, Report, ReportBatch
from billing_portal.ledger import settlement as settlements
from billing_portal.ledger.models import Settlement
from billing_portal.ledger.settlement import Funding
from usage import calls, charges, intake_log, revisions
from usage.charges import Charge
from usage.intake_log import Copies, Intake
from usage.models import Call, CallKey, CallRevision, Rejection, UnratedCall
from usage.storage import key_of

_LONGEST_ID = 128


@dataclass(frozen=True, slots=True)
class ReportedPart:
    """What of a call went into one report to a Stripe meter."""

    label: str
    micros: int
    report: Report


@dataclass(frozen=True, slots=True)
class InvoicedPart:
    """What of a call stands in one line of an invoice."""

    label: str
    micros: int
    line: InvoiceLine


@dataclass(frozen=True, slots=True)
class Trace:
    """All that is known of one id; what has not happened is None or empty.

    `interim` is the invoice that billed what the call accrued before its month ended, if one did; `invoice` is the
    month's own, from which that is taken off. Of a corrected call this is the way of its newest revision, and
    `corrections` are all its later ones, the first first.
    """

    call_id: str
    intake: Intake
    call: Call | None = None
    received_at: datetime | None = None
    source: str = ""
    source_sequence: int | None = None
    corrections: Sequence[CallRevision] = ()
    unrated: UnratedCall | None = None
    charge: Charge | None = None
    settlement: Settlement | None = None
    funding: Funding | None = None
    batch: ReportBatch | None = None
    reported: list[ReportedPart] = field(default_factory=list)
    interim: Invoice | None = None
    invoice: Invoice | None = None
    invoiced: list[InvoicedPart] = field(default_factory=list)

    @property
    def is_unknown(self) -> bool:
        """Say that nothing under this id ever arrived, as far as the log goes back."""
        return self.call is None and self.intake.is_empty

    @property
    def stage(self) -> str:
        """Return how far the call has come: the last thing that happened to it."""
        if self.call is None:
            return "unknown" if self.intake.is_empty else "rejected"
        invoices = [invoice for invoice in (self.interim, self.invoice) if invoice]
        reached = {
            "paid": any(invoice.paid_at for invoice in invoices),
            "invoiced": any(invoice.finalized_at for invoice in invoices),
            "reported": self.is_reported,
            "funded": self.settlement is not None,
            "rated": self.charge is not None,
        }
        return next((stage for stage, happened in reached.items() if happened), "received")

    @property
    def is_reported(self) -> bool:
        """Say whether Stripe has accepted every report that the call is in."""
        return self.batch is not None and all(part.report.state == Report.State.ACCEPTED for part in self.reported)

    @property
    def reported_at(self) -> datetime | None:
        """Return when Stripe had accepted all of the call; None before that."""
        if not self.is_reported:
            return None
        return max((part.report.accepted_at for part in self.reported if part.report.accepted_at), default=None)


def trace(organization_id: int, call_id: str) -> Trace:
    """Return what became of an organization's call, whether or not it was ever recorded."""
    if "\x00" in call_id or len(call_id) > _LONGEST_ID:
        return Trace(call_id, Intake(None, Copies(), Copies()))
    intake = intake_log.of_call(organization_id, call_id)
    call = calls.find(organization_id, call_id)
    if call is None:
        return Trace(call_id, intake)
    charge = charges.of(call)
    unrated = calls.unrated(call) if charge is None else None
    source, number = _numbered(call)
    arrived = Trace(
        call_id,
        intake,
        call=call,
        received_at=charge.received_at if charge else unrated.noticed_at if unrated else None,
        source=source,
        source_sequence=number,
        corrections=revisions.all_of(organization_id, call_id) if call.revision > 1 else (),
        unrated=unrated,
        charge=charge,
    )
    return arrived if charge is None or charge.sequence is None else _followed(arrived, charge)


def organizations_knowing(call_id: str, *, limit: int = 20) -> list[Organization]:
    """Return where an id was recorded or rejected: for staff, who are told an id and nothing else."""
    if "\x00" in call_id or len(call_id) > _LONGEST_ID:
        return []
    key = key_of(call_id)
    knowing = {
        *CallKey.objects.filter(key=key).values_list("organization_id", flat=True)[:limit],
        *Rejection.objects.filter(key=key, call_id=call_id).values_list("organization_id", flat=True)[:limit],
    }
    return list(Organization.objects.filter(pk__in=knowing).order_by("name", "id")[:limit])


def _followed(arrived: Trace, charge: Charge) -> Trace:
    """Return the trace with what happened since the call was settled."""
    settlement = Settlement.objects.select_related("reported__batch").get(
        organization_id=charge.call.organization_id,
        first_sequence__lte=charge.sequence,
        last_sequence__gte=charge.sequence,
    )
    reported = getattr(settlement, "reported", None)
    batch = reported.batch if reported else None
    invoice = _invoice(charge)
    micros = Counter(charge.charged)
    reports = Report.objects.filter(batch=batch) if batch else Report.objects.none()
    lines = InvoiceLine.objects.filter(invoice=invoice, kind=InvoiceLine.Kind.USAGE)
    funding = settlements.funding(charge)
    return replace(
        arrived,
        settlement=settlement,
        funding=funding,
        batch=batch,
        reported=[
            ReportedPart(report.get_component_display(), micros[report.component], report)
            for report in reports.order_by("component")
            if micros[report.component]
        ],
        interim=_interim(charge) if funding and funding.accrued_micros else None,
        invoice=invoice,
        invoiced=[
            InvoicedPart(line.get_component_display(), micros[line.component], line)
            for line in lines.order_by("position")
            if invoice and micros[line.component]
        ],
    )


def _invoice(charge: Charge) -> Invoice | None:
    """Return the invoice of the month in which the charge is billed."""
    invoices = Invoice.objects.filter(organization_id=charge.call.organization_id, month=charge.billed_month)
    return invoices.exclude(state=Invoice.State.VOID).first()


def _interim(charge: Charge) -> Invoice | None:
    """Return the invoice that billed what the charge accrued before its month ended."""
    assert charge.billed_month is not None, "it is settled"
    made = interims.standing(charge.call.organization_id, charge.billed_month)
    found = made.filter(first_sequence__lte=charge.sequence, last_sequence__gte=charge.sequence).first()
    return found.invoice if found else None


def _numbered(call: Call) -> tuple[str, int | None]:
    """Return by which source the call was counted, and as what; empty where the vendor sent no number."""
    detail = calls.detail(call)
    extra = detail.extra if detail else {}
    source, number = extra.get("source"), extra.get("source_sequence")
    if not isinstance(source, str) or not isinstance(number, int):
        return "", None
    return source, number
