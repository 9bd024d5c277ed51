"""What the end of a customer takes with it."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.registry import operation
from billing_portal.sandbox.store import Object

from . import customers, invoices, subscriptions

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


@operation("DELETE", "/v1/customers/{customer}")
def delete(box: "Sandbox", call: generic.Call) -> Object:
    """Deleting a customer cancels their subscriptions and detaches their payment methods."""
    customer = box.get("customer", call.id)
    for subscription in box.store.where("subscription", customer=customer["id"]):
        if subscription["status"] in customers.RUNNING:
            subscriptions.end(box, subscription)
    for invoice in box.store.where("invoice", customer=customer["id"]):
        if invoice["status"] in {"draft", "open"} and not invoice.get("_deleted"):
            invoices.stop_collecting(box, invoice)
    for method in box.store.where("payment_method", customer=customer["id"]):
        box.change(method, customer=None)
    generic.remove(box, customer)
    return {"id": customer["id"], "object": "customer", "deleted": True}
