"""Whether an invoice, the usage behind it and every step between them agree.

The chain: call facts, rated anew = charges = rollups = settlements = reports accepted = Stripe's sums = invoice lines
(micros to minor units, rounded half up once a line) = totals = payment. What interim invoices billed is taken off by
lines of its own, and each interim invoice is held to the settlements it covers: so together they come to the month.
Every comparison that fails is a `Difference` that names its level and its subject. `deep` rates every call of the month
again and asks Stripe for its sums; without it only totals are compared, which is what a page can afford.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from django.db.models import Exists, OuterRef, Q, Sum

from billing_portal.billing import (
    call_audit,
    credit_lines,
    credit_notes,
    crediting,
    cycles,
    expected_lines,
    interims,
    invoices,
    meter_sums,
    metering,
    minor_units,
    outcome_audit,
)
from billing_portal.billing.call_audit import Difference
from billing_portal.billing.expected_lines import LineReconciliation
from billing_portal.billing.models import CreditLine, CreditNote, InterimInvoice, Invoice, Purchase
from billing_portal.ledger import credit_notes as ledger_notes
from billing_portal.ledger import totals
from billing_portal.ledger.models import Entry, Settlement
from usage import rollups
from usage.models import Billable
from usage.outcomes import charges as outcome_charges


@dataclass(frozen=True, slots=True)
class InvoiceReconciliation:
    """An invoice's lines and every difference found. A draft has none of Stripe's lines yet, and a void one bills
    nothing, so none can differ.
    """

    invoice: Invoice
    lines: list[LineReconciliation] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    credit_notes: list[CreditNote] = field(default_factory=list)
    is_put_right: bool = False  # by a credit note over what Stripe billed too much

    @property
    def agrees(self) -> bool:
        return not self.differences

    @property
    def our_total_minor(self) -> int:
        return sum(line.our_amount_minor for line in self.lines)

    @property
    def stripe_total_minor(self) -> int:
        return sum(line.stripe_amount_minor for line in self.lines)


def reconcile_invoice(invoice: Invoice, *, deep: bool) -> InvoiceReconciliation:
    """Compare an invoice with what stands behind it. `deep` takes seconds for 100,000 calls, and asks Stripe."""
    interim = interims.of_invoice(invoice)
    lines = expected_lines.of(invoice, interim)
    differences: list[Difference] = []
    is_put_right, notes = False, list[CreditNote]()
    is_final = invoice.state not in {Invoice.State.DRAFT, Invoice.State.VOID}
    if interim is not None:
        differences += _interim_differences(interim, deep=deep)
    if invoice.month is not None:
        differences += usage_differences(invoice.organization_id, invoice.month, deep=deep)
    if invoice.month is not None and is_final:
        differences += report_differences(invoice.organization_id, invoice.month, deep=deep)
    if is_final:
        notes = list(CreditNote.objects.filter(invoice=invoice).order_by("id"))
        if not (is_put_right := _is_put_right(notes, lines)):
            differences += _line_differences(lines)
            differences += _credit_differences(invoice)
        differences += _note_differences(invoice, notes)
        differences += _amount_differences(invoice)
        differences += _payment_differences(invoice)
    return InvoiceReconciliation(
        invoice=invoice, lines=lines, differences=differences, credit_notes=notes, is_put_right=is_put_right
    )


def usage_differences(organization_id: int, month: date, *, deep: bool) -> Iterator[Difference]:
    """Yield every difference between the usage of a month, what it was charged, the rollups and the settlements."""
    yield from call_audit.sequence_gaps(organization_id)
    if deep:
        yield from call_audit.audit(organization_id, month)
        yield from outcome_audit.audit(organization_id, month)
        return
    cause = "The rollups do not hold what was settled; rebuild them."
    settled = totals.month(organization_id, month).gross
    rolled_up = rollups.component_totals(organization_id, month) | outcome_charges.totals(organization_id, month)
    yield from _compare("rollups", settled, rolled_up, cause)


def report_differences(organization_id: int, month: date, *, deep: bool) -> Iterator[Difference]:
    """Yield every difference between a month's settlements, its reports and, if `deep`, what Stripe has summed up."""
    settled = totals.month(organization_id, month).gross
    reported = metering.reported(organization_id, month)
    yield from _compare("reports", settled, reported, "Settled usage is in no report.")
    for report in metering.unaccepted(organization_id, month):
        cause = f"Stripe has not accepted the report: {report.get_state_display().lower()}."
        yield Difference("reports accepted", report.identifier, report.micros, 0, cause)
    if deep and settled:
        for component, ours, theirs in meter_sums.differences(organization_id, month, reported):
            yield Difference(
                "Stripe's sums", expected_lines.name(component), ours, theirs, "Stripe counted other events than ours."
            )


def unbilled(*, now: datetime) -> Iterator[tuple[int, date, int]]:
    """Yield (organization id, month, micros) of settled usage that has no invoice an hour after its period ended."""
    month = cycles.month_ended_by(now - timedelta(hours=1))
    billed = Invoice.objects.filter(organization_id=OuterRef("organization_id"), month=OuterRef("month"))
    settled = Settlement.objects.filter(month__lte=month).exclude(Exists(billed.exclude(state=Invoice.State.VOID)))
    sums = settled.order_by("organization_id", "month").values_list("organization_id", "month")
    for organization_id, unbilled_month, micros in sums.annotate(Sum("gross_micros")):
        yield organization_id, unbilled_month, int(micros)


def _compare(level: str, ours: dict[str, int], theirs: dict[str, int], cause: str) -> Iterator[Difference]:
    for component in Billable.values:
        if ours.get(component, 0) != theirs.get(component, 0):
            yield Difference(
                level, expected_lines.name(component), ours.get(component, 0), theirs.get(component, 0), cause
            )


def _line_differences(lines: list[LineReconciliation]) -> Iterator[Difference]:
    for line in lines:
        missing = "Stripe's invoice lacks this line."
        if line.quantity_difference:
            cause = "Stripe billed another quantity than was settled." if line.line else missing
            yield Difference("line quantity", line.label, line.our_quantity, line.stripe_quantity, cause)
        if line.amount_difference_minor:
            cause = "Stripe charged another amount than the quantity comes to." if line.line else missing
            yield Difference("line amount", line.label, line.our_amount_minor, line.stripe_amount_minor, cause)


def _interim_differences(interim: InterimInvoice, *, deep: bool) -> Iterator[Difference]:
    """Compare what an interim invoice keeps with the settlements it covers.

    The calls behind them are compared with the month's invoice, and here only while there is none.
    """
    kept = {line.component: line for line in interim.lines.all()}
    due = {line.component: line for line in interims.rederived(interim)}
    cause = "It does not keep what the settlements it covers come to."
    micros = {component: line.micros for component, line in due.items()}
    yield from _compare("interim", micros, {component: line.micros for component, line in kept.items()}, cause)
    minor = {component: line.amount_minor for component, line in due.items()}
    yield from _compare("interim", minor, {component: line.amount_minor for component, line in kept.items()}, cause)
    if not Invoice.objects.filter(organization_id=interim.organization_id, month=interim.month).exists():
        yield from usage_differences(interim.organization_id, interim.month, deep=deep)


# ── Credit, totals and payment ────────────────────────────────────────────────────────────────────────────────────────


def _credit_differences(invoice: Invoice) -> Iterator[Difference]:
    """Compare the credit lines we put on with what the ledger burnt."""
    put_on = {(line.grant_kind, line.component): line for line in CreditLine.objects.filter(invoice=invoice)}
    for credit in credit_lines.due(invoice):
        line = put_on.pop((credit.grant_kind, credit.component), None)
        ours = line.micros if line else 0
        if ours != credit.micros:
            subject = credit_lines.label(credit.grant_kind, credit.component)
            yield Difference("credit", subject, credit.micros, ours, "The credit line is not what was burnt.")
    for line in put_on.values():
        subject = credit_lines.label(line.grant_kind, line.component)
        yield Difference("credit", subject, 0, line.micros, "No such credit was burnt.")


def _is_put_right(notes: list[CreditNote], lines: list[LineReconciliation]) -> bool:
    """Say whether credit notes took back exactly what Stripe billed too much when it finalized without us."""
    issued = [note for note in notes if note.state == CreditNote.State.ISSUED]
    taken_back = sum(note.net_minor for note in issued if note.cause == CreditNote.Cause.MISBILLED)
    return taken_back > 0 and taken_back == sum(line.amount_difference_minor for line in lines)


def _note_differences(invoice: Invoice, notes: list[CreditNote]) -> Iterator[Difference]:
    """Compare our credit notes with what Stripe's invoice says of them, and the ledger with ours."""
    issued = [note for note in notes if note.state == CreditNote.State.ISSUED]
    sides = {
        "before": (sum(note.pre_minor for note in issued), invoice.pre_credited_minor),
        "after": (sum(note.post_minor for note in issued), invoice.post_credited_minor),
    }
    for when, (ours, theirs) in sides.items():
        if ours != theirs:
            cause = "A credit note is not known on both sides."
            yield Difference("credit notes", f"{when} payment", ours, theirs, cause)
    for note in notes:
        if note.state == CreditNote.State.REFUSED:
            yield Difference("credit notes", str(note), note.total_minor, 0, f"Stripe refused it: {note.failure}")
    if notes and invoices.usage_month(invoice) is not None:
        posted = ledger_notes.lowered(invoice.organization_id, credit_notes.prefix(invoice))
        due = tuple(minor_units.to_micros(minor, invoice.currency) for minor in crediting.issued(invoice))
        if posted != due:
            cause = "The ledger has not lowered what the credit notes come to."
            yield Difference("credit notes", "ledger", sum(due), sum(posted), cause)


def _amount_differences(invoice: Invoice) -> Iterator[Difference]:
    """I10: lines = subtotal, subtotal + tax = total, total + starting balance = paid + open + ending balance."""
    lines = sum(invoice.lines.values_list("amount_minor", flat=True))
    if lines != invoice.subtotal_minor:
        yield Difference("total", "sum of the lines", lines, invoice.subtotal_minor, "A line is missing or changed.")
    if invoice.subtotal_minor + invoice.tax_minor != invoice.total_minor:
        ours = invoice.subtotal_minor + invoice.tax_minor
        yield Difference("total", "subtotal and tax", ours, invoice.total_minor, "Stripe's total has another part.")
    if invoice.state in {Invoice.State.OPEN, Invoice.State.PAID, Invoice.State.UNCOLLECTIBLE}:
        owed = invoice.total_minor + invoice.starting_balance_minor
        settled = invoice.amount_due_minor + invoice.pre_credited_minor + (invoice.ending_balance_minor or 0)
        if owed != settled:
            yield Difference("total", "amount due and balance", owed, settled, "The customer balance does not add up.")


def _payment_differences(invoice: Invoice) -> Iterator[Difference]:
    """A paid invoice is paid whole, and the ledger knows."""
    if invoice.state != Invoice.State.PAID:
        return
    if invoice.amount_paid_minor != invoice.amount_due_minor:
        yield Difference(
            "payment",
            invoice.stripe_invoice_id,
            invoice.amount_due_minor,
            invoice.amount_paid_minor,
            "Paid is not due.",
        )
    purchase = Purchase.objects.filter(invoice=invoice).first()
    if purchase is not None and purchase.state != Purchase.State.CREDITED:
        cause = "What was paid for is not given yet."
        yield Difference("payment", purchase.reference, purchase.amount_micros, 0, cause)
    billed_micros = invoices.accrued_micros(invoice)
    if billed_micros or (invoice.month is not None and invoice.total_minor):
        reference = invoices.collect_reference(invoice)
        noted = Q(transaction__reference__startswith=credit_notes.prefix(invoice))
        of_invoice = Q(transaction__reference=reference) | noted
        entries = Entry.objects.filter(of_invoice, organization_id=invoice.organization_id)
        micros = int(entries.filter(book=Entry.Book.RECEIVABLE).aggregate(sum=Sum("micros"))["sum"] or 0)
        if micros != billed_micros or not entries.exists():
            cause = "The ledger has not recorded that what was billed came in."
            yield Difference("payment", reference, billed_micros, micros, cause)
