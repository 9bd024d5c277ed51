"""What only billing knows of an exported call: the invoice that it stands on."""

from accounts.models import Organization
from billing_portal.billing.models import Invoice
from usage.calls import Filters
from usage.exports.selection import Selection


def selection(organization: Organization, filters: Filters) -> Selection:
    """Return the organization's calls that `filters` keeps, with the numbers of their months' invoices.

    A draft has no number yet, and what a void invoice billed stands on the one that took its place.
    """
    invoices = Invoice.objects.filter(organization=organization, month__isnull=False).exclude(number="")
    numbers = invoices.exclude(state=Invoice.State.VOID).values_list("month", "number")
    return Selection(organization, filters, {month: number for month, number in numbers if month})
