"""Invoice items: amounts of our own on a draft, or pending until the next invoice."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies, generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.store import Object

from . import lines, pricing, products

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

MOST = 250

resource(
    "invoiceitem",
    "ii",
    "/v1/invoiceitems",
    defaults={"quantity": 1, "quantity_decimal": "1", "discountable": True, "tax_rates": [], "discounts": []},
    filters={"pending": lambda item, wanted: (item["invoice"] is None) == wanted},
)


@operation("POST", "/v1/invoiceitems")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    generic.check_references(box, "invoiceitem", params)
    invoice = _draft(box, params.get("invoice"))
    if invoice is None and "customer" not in params:
        raise invalid("Missing required param: customer.", param="customer", code="parameter_missing")
    owner = params.get("customer") or (invoice or {}).get("customer")
    customer = box.get("customer", owner, param="customer")
    if invoice and invoice["customer"] != customer["id"]:
        raise invalid("The invoice belongs to another customer.", param="invoice")
    currency = _currency(box, params, invoice, customer)
    item = make(box, customer, currency, invoice=invoice, **_price(box, params, currency), **_plain(box, params))
    if subscription := params.get("subscription"):
        box.change(item, parent=_parent(box, subscription), _subscription=subscription)
    if invoice:
        lines.add_invoice_item(box, invoice, item)
    return item


def _draft(box: "Sandbox", name: str | None) -> Object | None:
    """The draft the item goes on."""
    if name is None:
        return None
    invoice = box.get("invoice", name, param="invoice")
    if invoice["status"] != "draft":
        raise invalid(
            f"The invoice {name} is not a draft: items can no longer be added.", param="invoice",
            code="invoice_not_editable",
        )  # fmt: skip
    own = [line for line in lines.of(box, invoice) if "_item" in line]
    if len(own) >= MOST:
        raise invalid(f"You can add at most {MOST} items to an invoice.", param="invoice",
                      code="invoice_item_limit_exceeded")  # fmt: skip
    return invoice


def _currency(box: "Sandbox", params: dict[str, Any], invoice: Object | None, customer: Object) -> str:
    named = params.get("currency") or (params.get("price_data") or {}).get("currency")
    if price := (params.get("pricing") or {}).get("price"):
        named = named or box.get("price", price, param="pricing[price]")["currency"]
    wanted = (invoice or {}).get("currency") or named or customer["currency"]
    if not wanted:
        raise invalid("Missing required param: currency.", param="currency", code="parameter_missing")
    if named and currencies.check(named) != wanted:
        raise invalid(
            f"The currency of the invoice item ({named}) does not match that of the invoice ({wanted}).",
            param="currency",
        )
    return currencies.check(wanted)


def _price(box: "Sandbox", params: dict[str, Any], currency: str) -> dict[str, Any]:
    """Amount, quantity and pricing from an amount, a unit amount, a price or inline price data."""
    quantity = params.get("quantity", 1)
    if "amount" in params:
        return {"amount": params["amount"], "quantity": 1, "quantity_decimal": "1"}
    counted = {"quantity": quantity, "quantity_decimal": str(quantity)}
    if "unit_amount_decimal" in params:
        each = products.decimal(params["unit_amount_decimal"], "unit_amount_decimal")
        return counted | {"amount": currencies.rounded(each * quantity)}
    if name := (params.get("pricing") or {}).get("price"):
        price = box.get("price", name, param="pricing[price]")
        return counted | {"amount": pricing.amount(price, currency, quantity), "pricing": _pricing(price, currency)}
    if data := params.get("price_data"):
        each = Decimal(products.unit_amounts(data).get("unit_amount_decimal", "0"))
        product = box.get("product", data["product"], param="price_data[product]")
        price = products.make_price(box, {**data, "product": product["id"]})
        amount = currencies.rounded(each * quantity)
        return counted | {"amount": amount, "pricing": _pricing(price, currency)}
    raise invalid("You must supply one of `amount`, `pricing` or `price_data`.", param="amount",
                  code="parameter_missing")  # fmt: skip


def _pricing(price: Object, currency: str) -> Object:
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": pricing.unit_amount_decimal(price, currency),
    }


def _plain(box: "Sandbox", params: dict[str, Any]) -> dict[str, Any]:
    fields: Object = {name: params[name] for name in ("description", "discountable", "period") if name in params}
    fields["metadata"] = dict(params.get("metadata") or {})
    fields["_tax_behavior"] = params.get("tax_behavior") or (params.get("price_data") or {}).get("tax_behavior")
    fields["_tax_code"] = params.get("tax_code")
    return fields


def _parent(box: "Sandbox", subscription: str) -> Object:
    found = box.get("subscription", subscription, param="subscription")
    return {"subscription_details": {"subscription": found["id"]}, "type": "subscription_details"}


def make(box: "Sandbox", customer: Object, currency: str, *, invoice: Object | None = None, **fields: Any) -> Object:
    """Store an invoice item; the period defaults to this instant."""
    now = box.time_of(customer)
    fields = {"period": {"start": now, "end": now}} | fields
    return box.create(
        "invoiceitem",
        **fields
        | {
            "customer": customer["id"],
            "currency": currency,
            "date": now,
            "net_amount": fields["amount"],
            "invoice": invoice["id"] if invoice else None,
            "test_clock": customer["test_clock"],
        },
    )


def pull_in(box: "Sandbox", invoice: Object, subscription: str | None) -> None:
    """Put the customer's pending items on a new invoice: those for no subscription, or for this one."""
    for item in box.store.where("invoiceitem", customer=invoice["customer"]):
        if item["invoice"] or item.get("_deleted") or item["currency"] != invoice["currency"]:
            continue
        if item.get("_subscription") in {None, subscription}:
            box.change(item, invoice=invoice["id"])
            lines.add_invoice_item(box, invoice, item)


def drop_all(box: "Sandbox", invoice: Object) -> None:
    for item in box.store.where("invoiceitem", invoice=invoice["id"]):
        box.store.change(item, _deleted=True)


@operation("POST", "/v1/invoiceitems/{invoiceitem}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    item = box.get("invoiceitem", call.id)
    _require_editable(box, item)
    params = dict(call.params)
    if {"amount", "quantity", "unit_amount_decimal", "pricing", "price_data"} & params.keys():
        if "quantity" in params and "amount" not in params and item["pricing"]:
            params.setdefault("pricing", {"price": item["pricing"]["price_details"]["price"]})
        priced = _price(box, params, item["currency"])
        box.change(item, **priced, net_amount=priced["amount"])
    names = ("description", "discountable", "metadata", "period")
    box.change(item, **box.overlay("invoiceitem", {n: params[n] for n in names if n in params}, item))
    for line in box.store.where("line_item", _item=item["id"]):
        shared = ("amount", "description", "discountable", "metadata", "period", "pricing", "quantity")
        box.change(line, **{name: item[name] for name in shared}, subtotal=item["amount"])
    return item


def _require_editable(box: "Sandbox", item: Object) -> None:
    invoice = box.store.get("invoice", item["invoice"] or "")
    if invoice and invoice["status"] != "draft":
        raise invalid(
            "This invoice item is attached to an invoice that is no longer editable.", code="invoice_not_editable"
        )


@operation("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete(box: "Sandbox", call: generic.Call) -> Object:
    item = box.get("invoiceitem", call.id)
    _require_editable(box, item)
    for line in box.store.where("line_item", _item=item["id"]):
        box.store.remove(line)
    generic.remove(box, item)
    return {"id": item["id"], "object": "invoiceitem", "deleted": True}
