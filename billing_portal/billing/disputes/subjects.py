"""What can be disputed: each kind finds its subject by a reference and says what it costs now.

Any page links to the form with `kind` and `reference` (`templates/portal/_dispute_link.html`): the reference of a call
or a conversation is the vendor's id, that of an invoice line `<invoice's public id>/<component>`, that of a class of a
compared log `<comparison's public id>/<class>`. A new kind is a choice of `Dispute.Kind` and a line in `_FIND`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Organization
from billing_portal.billing import minor_units
from billing_portal.billing.models import Dispute, Invoice, InvoiceLine
from usage import calls, charges
from usage.comparisons import jobs
from usage.models import Billable, Comparison
from usage.models.outcomes import OutcomeCharge
from usage.outcomes import explanations

_MOST = 200
_BILLS_USAGE = (InvoiceLine.Kind.USAGE, InvoiceLine.Kind.INTERIM)


class SubjectMissing(LookupError):
    """Nothing of this organization has this kind and reference, or it is not charged for yet."""

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"There is no {kind} {reference} that can be disputed.")
        self.kind = kind
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Subject:
    """What a dispute is about, and what it costs as things stand, in micros."""

    organization_id: int
    kind: str
    reference: str
    label: str
    amount_micros: int
    currency: str


def find(organization: Organization, kind: str, reference: str) -> Subject:
    """Return the subject of that kind and reference. Raises SubjectMissing."""
    finder = _FIND.get(kind)
    known = reference and len(reference) <= _MOST and "\0" not in reference
    found = finder(organization, reference) if finder and known else None
    if found is None:
        raise SubjectMissing(kind, reference)
    label, micros = found
    return Subject(organization.pk, kind, reference, label, micros, organization.currency)


def line_reference(invoice: Invoice, component: str) -> str:
    """Return what names an invoice's line of a component."""
    return f"{invoice.public_id}/{component}"


def line_of(organization_id: int, reference: str) -> InvoiceLine | None:
    """Return the usage line of a final invoice that a reference names."""
    public_id, _, component = reference.partition("/")
    try:
        lines = InvoiceLine.objects.filter(organization_id=organization_id, invoice__public_id=UUID(public_id))
    except ValueError:
        return None
    final = lines.exclude(invoice__state__in=[Invoice.State.DRAFT, Invoice.State.VOID])
    return final.filter(component=component, kind__in=_BILLS_USAGE).select_related("invoice").order_by("id").first()


def _call(organization: Organization, reference: str) -> tuple[str, int] | None:
    call = calls.find(organization.pk, reference)
    charge = charges.of(call) if call else None
    return (f"Call {reference}", charge.price_micros) if charge else None


def _conversation(organization: Organization, reference: str) -> tuple[str, int] | None:
    conversation = explanations.find(organization.pk, reference)
    if conversation is None:
        return None
    settled = OutcomeCharge.objects.filter(
        organization_id=organization.pk, conversation_id=conversation.pk, sequence__isnull=False
    )
    reversed_ids = set(settled.filter(kind=OutcomeCharge.Kind.REVERSAL).values_list("reverses_id", flat=True))
    standing = [each for each in settled.filter(kind=OutcomeCharge.Kind.CHARGE) if each.pk not in reversed_ids]
    # What a unit of a bucket paid for has no price of its own: its list price is the most that can be asked for.
    return f"Conversation {reference}", sum(_worth(each) for each in standing)


def _worth(charge: OutcomeCharge) -> int:
    return charge.price_micros if charge.bucket_id else charge.amount_micros or 0


def _invoice_line(organization: Organization, reference: str) -> tuple[str, int] | None:
    line = line_of(organization.pk, reference)
    if line is None:
        return None
    label = f"{Billable(line.component).label} on invoice {line.invoice}"
    return label, minor_units.to_micros(line.amount_minor, line.currency)


def _comparison(organization: Organization, reference: str) -> tuple[str, int] | None:
    public_id, _, name = reference.partition("/")
    try:
        found = Comparison.objects.filter(organization=organization, public_id=UUID(public_id)).first()
    except ValueError:
        return None
    total = jobs.totals(found).get(name) if found else None
    if found is None or total is None:
        return None
    days = f"{found.starts_date:%Y-%m-%d} to {found.ends_date:%Y-%m-%d}"
    return f"{total.calls:,} calls of your log, {days}: {Comparison.Class(name).label.lower()}", total.at_stake_micros


_FIND: dict[str, Callable[[Organization, str], tuple[str, int] | None]] = {
    Dispute.Kind.CALL: _call,
    Dispute.Kind.CONVERSATION: _conversation,
    Dispute.Kind.INVOICE_LINE: _invoice_line,
    Dispute.Kind.COMPARISON: _comparison,
}
