"""Adding up an invoice, and settling it with the customer's balance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from billing_portal.sandbox import currencies
from billing_portal.sandbox.store import Object

from . import lines, taxes

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@dataclass(frozen=True)
class Settlement:
    """What is to be paid, and the balance that is left; a positive balance is owed with the next invoice."""

    amount_due: int
    ending_balance: int
    too_small: bool = False


def settle(total: int, balance: int, currency: str) -> Settlement:
    """Stripe's rule: credit is used up first, debt is added, too small an amount waits on the balance."""
    due = total + balance
    if due <= 0:
        return Settlement(0, due)
    if due < currencies.minimum(currency):
        return Settlement(0, due, too_small=True)
    return Settlement(due, 0)


def compute(box: "Sandbox", invoice: Object) -> None:
    """Bring a draft's usage, taxes and amounts up to date."""
    found = lines.of(box, invoice)
    for line in found:
        if line.get("_meter"):
            lines.refresh(box, invoice, line)
    subtotal = sum(line["amount"] for line in found)
    credited = sum(credit["amount"] for credit in invoice["total_pretax_credit_amounts"] or ())
    tax = taxes.apply(box, invoice, found)
    net = subtotal - credited
    total = net + tax.exclusive
    customer = box.store.tables["customer"][invoice["customer"]]
    balance = customer["balance"] if customer["currency"] in {None, invoice["currency"]} else 0
    due = settle(total, balance, invoice["currency"]).amount_due
    box.change(
        invoice,
        subtotal=subtotal,
        subtotal_excluding_tax=subtotal - tax.inclusive,
        total=total,
        total_excluding_tax=net - tax.inclusive,
        total_taxes=tax.totals,
        automatic_tax=tax.state,
        starting_balance=balance,
        amount_due=due,
        amount_remaining=due,
    )


def apply_credits(box: "Sandbox", invoice: Object) -> None:
    """Billing credits are applied when an invoice is finalised; see `credit_grants`."""
    for hook in box.hooks["apply_credits"]:
        hook(box, invoice)
