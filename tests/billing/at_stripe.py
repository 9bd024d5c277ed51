"""Things that happen at Stripe without the portal's doing."""

from billing_portal.billing import gateway


def pay_an_invoice(stripe_customer_id: str) -> gateway.Object:
    """Bill a customer 50 dollars on an invoice of its own, from draft to paid; return the invoice."""
    item = {"customer": stripe_customer_id, "amount": 5_000, "currency": "usd", "description": "Set-up"}
    gateway.create("invoice_items", item, "item")
    params = {"customer": stripe_customer_id, "pending_invoice_items_behavior": "include", "auto_advance": False}
    invoice = gateway.create("invoices", params, "invoice")
    gateway.act("invoices", "finalize_invoice", invoice["id"], {"auto_advance": False}, "finalize")
    return gateway.act("invoices", "pay", invoice["id"], {}, "pay")
