"""Invoice lines: from subscription items, whose usage grows while the invoice is a draft, and from invoice items."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid, missing
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import page
from billing_portal.sandbox.store import Object

from . import pricing, usage

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("line_item", "il")


def of(box: "Sandbox", invoice: Object) -> list[Object]:
    return box.store.where("line_item", invoice=invoice["id"])


def add_metered(box: "Sandbox", invoice: Object, item: Object, start: int, end: int) -> Object:
    """A line in arrears for a metered item, counting from when the item was there."""
    price = box.get("price", item["_price"])
    line = _add(
        box,
        invoice,
        parent=_item_parent(item),
        period={"start": start, "end": end},
        pricing=_pricing(price, invoice["currency"]),
        subscription=item["subscription"],
        quantity=0,
        discountable=True,
        metadata=dict(item["metadata"]),
        _meter=price["recurring"]["meter"],
        _price=price["id"],
        _from=max(start, item["_usage_from"]),
        _until=end,
    )
    refresh(box, invoice, line)
    return line


def add_licensed(box: "Sandbox", invoice: Object, item: Object, start: int, end: int) -> Object:
    """A line in advance for a licensed item."""
    price, currency = box.get("price", item["_price"]), invoice["currency"]
    product = box.store.tables["product"][price["product"]]
    cost = pricing.amount(price, currency, item["quantity"])
    each = pricing.unit_amount_decimal(price, currency) or "0"
    return _add(
        box,
        invoice,
        amount=cost,
        subtotal=cost,
        description=f"{item['quantity']} × {product['name']} (at {each} / {price['recurring']['interval']})",
        parent=_item_parent(item),
        period={"start": start, "end": end},
        pricing=_pricing(price, currency),
        subscription=item["subscription"],
        quantity=item["quantity"],
        discountable=True,
        metadata=dict(item["metadata"]),
        _price=price["id"],
    )


def add_trial(box: "Sandbox", invoice: Object, item: Object, start: int, end: int) -> Object:
    price = box.get("price", item["_price"])
    return _add(
        box,
        invoice,
        description="Free trial",
        parent=_item_parent(item),
        period={"start": start, "end": end},
        pricing=_pricing(price, invoice["currency"]),
        subscription=item["subscription"],
        quantity=item.get("quantity", 0),
        discountable=True,
        _price=price["id"],
    )


def add_invoice_item(box: "Sandbox", invoice: Object, item: Object) -> Object:
    """A line for an invoice item, which is from now on part of this invoice."""
    details = {
        "invoice_item": item["id"],
        "proration": item["proration"],
        "proration_details": {"credited_items": None},
        "subscription": (item["parent"] or {}).get("subscription_details", {}).get("subscription"),
    }
    return _add(
        box,
        invoice,
        amount=item["amount"],
        subtotal=item["amount"],
        description=item["description"],
        discountable=item["discountable"],
        metadata=dict(item["metadata"]),
        parent={
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        period=item["period"],
        pricing=item["pricing"],
        quantity=item["quantity"],
        _item=item["id"],
        _tax_behavior=item.get("_tax_behavior"),
    )


def _add(box: "Sandbox", invoice: Object, **fields: Any) -> Object:
    """One more line. Amounts default to zero; taxes are filled in when the invoice is computed."""
    blank = {
        "amount": 0,
        "subtotal": 0,
        "discount_amounts": [],
        "pretax_credit_amounts": [],
        "taxes": [],
        "metadata": {},
    }
    return box.create(
        "line_item", emit=False, **blank | {"invoice": invoice["id"], "currency": invoice["currency"]} | fields
    )


def _item_parent(item: Object) -> Object:
    details = {
        "invoice_item": None,
        "proration": False,
        "proration_details": {"credited_items": None},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return {"invoice_item_details": None, "subscription_item_details": details, "type": "subscription_item_details"}


def _pricing(price: Object, currency: str) -> Object:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": pricing.unit_amount_decimal(price, currency),
    }


def refresh(box: "Sandbox", invoice: Object, line: Object) -> None:
    """Count a metered line's usage anew."""
    meter, price = box.get("billing.meter", line["_meter"]), box.store.tables["price"][line["_price"]]
    start, end = line["_from"], line["_until"]
    total = (usage.total(box, meter, invoice["customer"], start, end) or 0) if start < end else 0
    quantity = max(0, total)
    cost = pricing.amount(price, invoice["currency"], quantity)
    product = box.store.tables["product"][price["product"]]
    box.change(
        line,
        quantity=quantity,
        amount=cost,
        subtotal=cost,
        description=line.get("_description") or f"{quantity} × {product['name']}",
    )


@operation("GET", "/v1/invoices/{invoice}/lines")
def list_lines(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    box.retrieve("invoice", invoice["id"])  # a draft counts its usage when it is looked at
    return page(box, of(box, invoice), call.params, call.path)


@operation("POST", "/v1/invoices/{invoice}/lines/{line_item_id}")
def update_line(box: "Sandbox", call: generic.Call) -> Object:
    invoice = box.get("invoice", call.ids["invoice"])
    line = box.get("line_item", call.ids["line_item_id"])
    if line["invoice"] != invoice["id"]:
        raise missing("line_item", line["id"], param="line_item_id")
    if invoice["status"] != "draft":
        raise invalid("You can only update line items of a draft invoice.", code="invoice_not_editable")
    allowed = {"description", "metadata"} | ({"amount", "period", "quantity"} if "_item" in line else set())
    if refused := set(call.params) - allowed - {"expand"}:
        raise invalid(
            f"The sandbox does not change {', '.join(sorted(refused))} of this line.", param=sorted(refused)[0]
        )
    changes = box.overlay("line_item", call.params, line)
    if "amount" in changes:
        changes["subtotal"] = changes["amount"]
    if "description" in changes:
        changes["_description"] = changes["description"]
    box.change(line, **changes)
    return line
