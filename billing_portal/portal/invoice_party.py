"""Whom a final invoice is made out to, and its tax by rate, as the pages say it."""

from collections.abc import Iterable
from dataclasses import dataclass

from billing_portal.billing.models import Invoice, InvoiceParty, InvoiceTax
from billing_portal.billing.tax import addresses, id_formats
from billing_portal.portal import formats

# Stripe's reasons for no tax, and ours, for people to read.
_WHY = {
    "reverse_charge": "Reverse charge: you account for the tax yourselves.",
    "customer_exempt": "You are exempt from tax.",
    "not_collecting": "No tax is collected where you are.",
    "not_subject_to_tax": "This is not subject to tax where you are.",
    "product_exempt": "This is exempt from tax where you are.",
    "zero_rated": "This is taxed at zero where you are.",
    "no_location": "There was no billing address in time, so no tax was worked out.",
    "calculation_failed": "Stripe could not work out the tax in time.",
    "finalization_requires_location_inputs": "There was no billing address, so no tax was worked out.",
}


@dataclass(frozen=True, slots=True)
class ShownTax:
    """The tax at one rate, in minor units, and why there is none."""

    label: str
    net_minor: int
    tax_minor: int
    note: str


@dataclass(frozen=True, slots=True)
class ShownParty:
    """A party as it is shown: the address by lines, each tax id with what it is called."""

    name: str
    lines: list[str]
    tax_ids: list[tuple[str, str]]
    purchase_order: str
    taxes: list[ShownTax]

    @property
    def rates(self) -> list[ShownTax]:
        """The rates at which something is taxed."""
        return [tax for tax in self.taxes if tax.tax_minor]


def of(invoice: Invoice) -> ShownParty | None:
    """Return whom an invoice is made out to; None until it is final and stored."""
    party = InvoiceParty.objects.filter(invoice=invoice).first()
    if party is None:
        return None
    country = str(party.address.get("country") or "")
    return ShownParty(
        name=party.name,
        lines=addresses.lines(party.address),
        tax_ids=[(id_formats.label(kind, country), value) for kind, value in party.tax_ids],
        purchase_order=party.purchase_order,
        taxes=list(_taxes(invoice.taxes.all())),
    )


def _taxes(rows: Iterable[InvoiceTax]) -> Iterable[ShownTax]:
    for row in rows:
        percent = formats.rate(row.percent) if row.percent else ""
        label = " ".join(filter(None, [row.name or "Tax", percent]))
        yield ShownTax(label, row.net_minor, row.tax_minor, "" if row.tax_minor else _WHY.get(row.reason, ""))
