"""What can be disputed: each kind finds its subject by a reference and says what it costs now.

Any page links to the form with `kind` and `reference` (`templates/portal/_dispute_link.html`): the reference of a call
or a conversation is the vendor's id, that of an invoice line `<invoice's public id>/<component>`, that of a class of a
compared log `<comparison's public id>/<class>`. A new kind is a choice of `Dispute.Kind` and a line in `_FIND`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Organization
from billing_portal.billing import discount_shares, minor_units
from billing_portal.billing.models import Dispute, Invoice, InvoiceLine
from usage import calls, charges
from usage.comparisons import jobs
from usage.comparisons.matching import Total
from usage.models import Billable, Comparison
from usage.models.outcomes import OutcomeCharge
from usage.outcomes import explanations

_MOST = 200
_MOST_COMPARED = 20_000
_BILLS_USAGE = (InvoiceLine.Kind.USAGE, InvoiceLine.Kind.INTERIM)


class SubjectMissing(LookupError):
    """Nothing of this organization has this kind and reference, or it is not charged for yet."""

    def __init__(self, kind: str, reference: str) -> None:
        super().__init__(f"There is no {kind} {reference} that can be disputed.")
        self.kind = kind
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Subject:
    """What a dispute is about, and what it costs as things stand, in micros: its price, less what discounts took."""

    organization_id: int
    kind: str
    reference: str
    label: str
    price_micros: int
    discounted_micros: int
    currency: str

    @property
    def amount_micros(self) -> int:
        """What the customer pays for it, be it by card or with credit: the most that can be given back."""
        return max(0, self.price_micros - self.discounted_micros)


# What a finder returns: what the subject is called, its price, and what discounts took off it.
_Found = tuple[str, int, int]


def find(organization: Organization, kind: str, reference: str) -> Subject:
    """Return the subject of that kind and reference. Raises SubjectMissing."""
    finder = _FIND.get(kind)
    known = reference and len(reference) <= _MOST and "\0" not in reference
    found = finder(organization, reference) if finder and known else None
    if found is None:
        raise SubjectMissing(kind, reference)
    return Subject(organization.pk, kind, reference, *found, organization.currency)


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


def _call(organization: Organization, reference: str) -> _Found | None:
    call = calls.find(organization.pk, reference)
    charge = charges.of(call) if call else None
    if charge is None:
        return None
    return f"Call {reference}", charge.price_micros, discount_shares.of_call(charge.call, organization.currency)


def _conversation(organization: Organization, reference: str) -> _Found | None:
    conversation = explanations.find(organization.pk, reference)
    if conversation is None:
        return None
    settled = OutcomeCharge.objects.filter(
        organization_id=organization.pk, conversation_id=conversation.pk, sequence__isnull=False
    )
    reversed_ids = set(settled.filter(kind=OutcomeCharge.Kind.REVERSAL).values_list("reverses_id", flat=True))
    standing = [each for each in settled.filter(kind=OutcomeCharge.Kind.CHARGE) if each.pk not in reversed_ids]
    # What a unit of a bucket paid for has no price of its own: its list price is the most that can be asked for.
    discounted = discount_shares.of_outcomes(standing, organization.currency)
    return f"Conversation {reference}", sum(_worth(each) for each in standing), discounted


def _worth(charge: OutcomeCharge) -> int:
    return charge.price_micros if charge.bucket_id else charge.amount_micros or 0


def _invoice_line(organization: Organization, reference: str) -> _Found | None:
    line = line_of(organization.pk, reference)
    if line is None:
        return None
    label = f"{Billable(line.component).label} on invoice {line.invoice}"
    return label, minor_units.to_micros(line.amount_minor, line.currency), discount_shares.of_line(line)


def _comparison(organization: Organization, reference: str) -> _Found | None:
    public_id, _, name = reference.partition("/")
    try:
        found = Comparison.objects.filter(organization=organization, public_id=UUID(public_id)).first()
    except ValueError:
        return None
    total = jobs.totals(found).get(name) if found else None
    if found is None or total is None:
        return None
    is_one_day = found.starts_date == found.ends_date
    days = f"of {found.starts_date}" if is_one_day else f"from {found.starts_date} to {found.ends_date}"
    calls = f"{total.calls:,} call{'' if total.calls == 1 else 's'}"
    label = f"{calls} {days}, compared with your log: {Comparison.Class(name).label.lower()}"
    return label, total.at_stake_micros, _taken_off_compared(found, name, total)


def _taken_off_compared(comparison: Comparison, name: str, total: Total) -> int:
    """Return what discounts took off what is at stake: call by call while the class's file is there.

    Of more calls than a page can wait for, or once the file is gone, as much as of their months as a whole.
    """
    organization_id, currency = comparison.organization_id, comparison.organization.currency
    months = discount_shares.months_since(organization_id, comparison.starts_date)
    if not months or not total.at_stake_micros:
        return 0
    listed = jobs.first_calls(comparison, name, _MOST_COMPARED + 1)
    at_stake = {each.call_id: (each.our_micros or 0, each.at_stake_micros) for each in listed if each.at_stake_micros}
    if at_stake and len(listed) <= _MOST_COMPARED:
        taken = discount_shares.of_calls(organization_id, list(at_stake), months, currency)
        return total.at_stake_micros - discount_shares.left_of(at_stake, taken)
    return discount_shares.of_months(organization_id, months, total.at_stake_micros, currency)


_FIND: dict[str, Callable[[Organization, str], _Found | None]] = {
    Dispute.Kind.CALL: _call,
    Dispute.Kind.CONVERSATION: _conversation,
    Dispute.Kind.INVOICE_LINE: _invoice_line,
    Dispute.Kind.COMPARISON: _comparison,
}
