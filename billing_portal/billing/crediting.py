"""How much of an invoice credit notes have taken back, and how much is left: arithmetic on our own rows.

Stripe counts a credit note with its tax. What that is before tax is the same share of the invoice, rounded half up on
the sum of all notes: so notes over the whole invoice come to exactly what it billed (I11).
"""

from django.db.models import QuerySet, Sum

from billing_portal.billing import minor_units
from billing_portal.billing.models import CreditNote, Invoice
from usage import money

State, Cause = CreditNote.State, CreditNote.Cause


def net_minor(invoice: Invoice, gross_minor: int) -> int:
    """Return the part before tax of `gross_minor` of an invoice; nothing of one that bills nothing, or gives back."""
    if invoice.total_minor <= 0:
        return 0
    return money.round_half_up(gross_minor * (invoice.total_minor - invoice.tax_minor), invoice.total_minor)


def left_minor(invoice: Invoice) -> int:
    """Return how much of the invoice, with tax, no credit note has taken back or is about to."""
    standing = CreditNote.objects.filter(invoice=invoice, state__in=CreditNote.STANDING)
    return max(0, invoice.total_minor - _sum(standing, "total_minor"))


def left_micros(invoice: Invoice) -> int:
    """Return the same before tax, in micros: the most that can still be asked for."""
    gone = invoice.total_minor - left_minor(invoice)
    left = net_minor(invoice, invoice.total_minor) - net_minor(invoice, gone)
    return minor_units.to_micros(left, invoice.currency) if left_minor(invoice) else 0


def gross_minor(invoice: Invoice, micros: int) -> int:
    """Return what further `micros` before tax come to with tax, after what is credited already; at most what is left.

    Micros become minor units by the one rounding of `minor_units`.
    """
    left = left_minor(invoice)
    if micros >= left_micros(invoice):
        return left
    gone, net_total = invoice.total_minor - left, invoice.total_minor - invoice.tax_minor
    net = net_minor(invoice, gone) + minor_units.from_micros(micros, invoice.currency)
    return max(0, min(left, money.round_half_up(net * invoice.total_minor, net_total) - gone))


def before_payment(invoice: Invoice) -> tuple[int, int]:
    """Return what notes took off before it was paid, before tax: of our debt, and of what Stripe billed too much.

    By Stripe's own sum on the invoice, as their events may come later than that of the payment.
    """
    wrong = CreditNote.objects.filter(invoice=invoice, cause=Cause.MISBILLED)
    misbilled = _sum(wrong.filter(state=State.ISSUED), "pre_minor") + _sum(
        wrong.filter(state=State.ASKED), "total_minor"
    )
    debt = net_minor(invoice, invoice.pre_credited_minor - min(misbilled, invoice.pre_credited_minor))
    return debt, net_minor(invoice, invoice.pre_credited_minor) - debt


def issued(invoice: Invoice) -> tuple[int, int]:
    """Return what the issued notes come to before tax: off our debt, and off what was paid.

    The first is what `before_payment` returns once all of them are known.
    """
    notes = CreditNote.objects.filter(invoice=invoice, state=State.ISSUED)
    debt = _sum(notes.exclude(cause=Cause.MISBILLED), "pre_minor")
    before = _sum(notes, "pre_minor")
    paid = net_minor(invoice, before + _sum(notes, "post_minor")) - net_minor(invoice, before)
    return net_minor(invoice, debt), paid


def _sum(notes: QuerySet[CreditNote], column: str) -> int:
    return int(notes.aggregate(sum=Sum(column))["sum"] or 0)
