"""Automatic tax: what an invoice's customer owes where they are."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@dataclass
class Tax:
    """The tax on an invoice: on top of its lines, contained in them, and by rate."""

    state: Object
    exclusive: int = 0
    inclusive: int = 0
    totals: list[Object] = field(default_factory=list)


def customer_fields(box: "Sandbox", customer: Object) -> dict[str, object]:
    """What an invoice copies from its customer, to stay as it is when they change."""
    ids = [t for t in box.store.where("tax_id", customer=customer["id"]) if not t.get("_deleted")]
    return {
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": customer["shipping"],
        "customer_tax_exempt": customer["tax_exempt"],
        "customer_tax_ids": [{"type": t["type"], "value": t["value"]} for t in ids],
    }


def _is_located(invoice: Object) -> bool:
    return bool((invoice["customer_address"] or {}).get("country"))


def require_location(invoice: Object) -> None:
    """Finalising by hand with automatic tax needs to know where the customer is."""
    if invoice["automatic_tax"]["enabled"] and not _is_located(invoice):
        raise invalid(
            "The customer's location isn't recognized. Set a valid customer address in order to automatically calculate"
            " tax.",
            param="automatic_tax",
            code="customer_tax_location_invalid",
        )


def drop_if_unlocated(box: "Sandbox", invoice: Object) -> None:
    """Automatic finalisation goes on without tax, and says why."""
    if invoice["automatic_tax"]["enabled"] and not _is_located(invoice):
        reason = {"disabled_reason": "finalization_requires_location_inputs", "enabled": False, "status": None}
        box.change(invoice, automatic_tax=invoice["automatic_tax"] | reason)


def apply(box: "Sandbox", invoice: Object, found: list[Object], *, final: bool) -> Tax:
    """Compute the tax of each line; none unless automatic tax is on."""
    return Tax(state=invoice["automatic_tax"])
