"""Checkout sessions: an intent opened for the hosted page, and what its success completes."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import job, listener, operation, resource
from billing_portal.sandbox.rendering import as_list, page, render
from billing_portal.sandbox.store import Object

from . import (
    checkout_details,
    checkout_invoices,
    customers,
    intents,
    payment_intents,
    presentment,
    pricing,
    products,
    setup_intents,
    subscriptions,
)

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def _items(box: "Sandbox", session: Object) -> Object:
    found = box.store.where("item", _session=session["id"])
    return as_list([render(box, o) for o in found], f"/v1/checkout/sessions/{session['id']}/line_items")


def _present(box: "Sandbox", session: Object, shown: Object) -> None:
    shown.pop("line_items", None)


resource(
    "checkout.session",
    "cs_test",
    "/v1/checkout/sessions",
    present=_present,
    includes={"line_items": _items},
    defaults={"status": "open", "payment_status": "unpaid", "ui_mode": "hosted_page"},
    filters={
        "customer_details": lambda session, wanted: (session["customer_details"] or {}).get("email") == wanted["email"],
    },
)
resource("item", "li")

LIFETIME = 24 * 3600
COPIED = {"adaptive_pricing", "payment_intent", "setup_intent", "subscription", "line_items", "payment_method_options"}


@operation("POST", "/v1/checkout/sessions")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    generic.check_references(box, "checkout.session", params)
    checkout_details.check(params)
    checkout_details.check_place(box, params)
    mode = params.get("mode", "payment")
    identifier = box.new_id("cs_test", 58)
    fields = box.overlay("checkout.session", {k: v for k, v in params.items() if k not in COPIED})
    fields["automatic_tax"] = _automatic_tax(params)
    collection = params.get("tax_id_collection") or {}
    fields["tax_id_collection"] = {"enabled": bool(collection.get("enabled")), "required": "never"} | collection
    if "adaptive_pricing" in params or mode == "payment":
        fields["adaptive_pricing"] = {"enabled": (params.get("adaptive_pricing") or {}).get("enabled", True)}
    hosted = params.get("ui_mode", "hosted_page") == "hosted_page"
    session = box.create(
        "checkout.session",
        **fields
        | {
            "id": identifier,
            "mode": mode,
            "expires_at": params.get("expires_at", box.now() + LIFETIME),
            "payment_method_types": params.get("payment_method_types") or ["card", "link"],
            "url": f"{box.base_url}/c/pay/{identifier}" if hosted else None,
            "client_secret": None if hosted else intents.new_secret(identifier),
            "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
            "_collected": False,
            "_updates": params.get("customer_update") or {},
            "_data": {
                k: params.get(k) or {} for k in ("payment_intent_data", "setup_intent_data", "subscription_data")
            },
        },
    )
    _add_items(box, session, params)
    _open_intent(box, session)
    box.agenda.put("checkout.expire", identifier, session["expires_at"])
    return session


def _automatic_tax(params: dict[str, Any]) -> Object:
    enabled = bool((params.get("automatic_tax") or {}).get("enabled"))
    liability = {"type": "self"} if enabled else None
    return {"enabled": enabled, "liability": liability, "provider": "stripe" if enabled else None, "status": None}


def _add_items(box: "Sandbox", session: Object, params: dict[str, Any]) -> None:
    if session["mode"] == "setup":
        return
    if not params.get("line_items"):
        raise invalid("Missing required param: line_items.", param="line_items", code="parameter_missing")
    for index, given in enumerate(params["line_items"]):
        price = _price(box, given, index)
        currency = _currency(session, price)
        quantity = given.get("quantity", 1)
        amount = pricing.amount(price, currency, quantity)
        if (price["recurring"] or {}).get("usage_type") == "metered":
            amount, quantity = 0, None
        product = box.store.tables["product"][price["product"]]
        box.create(
            "item", amount_subtotal=amount, amount_total=amount, currency=currency,
            description=product["name"], price=render(box, price), quantity=quantity,
            _session=session["id"], _price=price["id"],
        )  # fmt: skip
        box.change(session, currency=currency)
    checkout_details.add_up(box, session)


def _currency(session: Object, price: Object) -> str:
    """The session's currency: the one it names or its first price's, in which every price must be had."""
    currency = str(session["currency"] or price["currency"]).lower()
    if currency != price["currency"] and currency not in (price["currency_options"] or {}):
        raise invalid(
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected currency:"
            f" `{currency}`.",
            param="currency",
        )
    return currency


def _price(box: "Sandbox", given: dict[str, Any], index: int) -> Object:
    if data := given.get("price_data"):
        data = dict(data)
        if product := data.pop("product_data", None):
            fields = box.overlay("product", {k: v for k, v in product.items() if k != "unit_label"})
            data["product"] = box.create("product", **fields, updated=box.now())["id"]
        return products.make_price(box, data)
    return box.get("price", given.get("price"), param=f"line_items[{index}][price]")


def _open_intent(box: "Sandbox", session: Object) -> None:
    """The intent the page confirms. A subscription is set up first and charged when it starts."""
    data = session["_data"]
    types = session["payment_method_types"]
    common = {"customer": session["customer"], "payment_method_types": types, "_checkout": session["id"]}
    if session["mode"] == "payment":
        if not session["amount_total"]:
            raise invalid("The total amount must be positive.", param="line_items")
        given = data["payment_intent_data"]
        intent = payment_intents.open_intent(
            box, amount=session["amount_total"], currency=session["currency"], payment_method=None,
            params={"payment_method_types": types}, **common | box.overlay("payment_intent", given),
        )  # fmt: skip
        box.change(session, payment_intent=intent["id"])
        return
    identifier = box.new_id("seti")
    given = box.overlay("setup_intent", data["setup_intent_data"])
    intent = box.create(
        "setup_intent", **given | common | {
            "id": identifier, "client_secret": intents.new_secret(identifier), "usage": "off_session",
            "status": "requires_payment_method",
        },
    )  # fmt: skip
    box.change(session, setup_intent=intent["id"])


@listener("payment_intent.succeeded")
@listener("setup_intent.succeeded")
def complete(box: "Sandbox", intent: Object) -> None:
    """The page's intent succeeded: the session is complete."""
    session = box.store.get("checkout.session", intent.get("_checkout") or "")
    if session is None or session["status"] != "open":
        return
    customer = _customer(box, session, intent)
    if session["mode"] == "subscription":
        _subscribe(box, session, customer, intent)
    if customer and checkout_invoices.is_wanted(session):
        box.change(session, invoice=checkout_invoices.make(box, session, customer, intent)["id"])
    paid = presentment.details(box, intent) if session["mode"] == "payment" else {}
    box.change(
        session,
        **paid,
        status="complete",
        payment_status="no_payment_required" if session["mode"] == "setup" else "paid",
        customer=customer["id"] if customer else None,
        customer_details=_details(box, session, customer, intent),
        url=None,
    )
    box.agenda.drop("checkout.expire", session["id"])
    box.tell(session, "completed")


def _customer(box: "Sandbox", session: Object, intent: Object) -> Object | None:
    """The session's customer, made now where the session creates one."""
    if session["customer"]:
        customer = box.get("customer", session["customer"])
        checkout_details.save(box, session, customer)
        return customer
    makes_one = session["customer_creation"] == "always" or session["mode"] == "subscription"
    if not makes_one and not checkout_invoices.is_wanted(session):
        return None
    method = box.get("payment_method", intent["payment_method"])
    email = session["customer_email"] or method["billing_details"]["email"]
    fields = {"email": email, "name": method["billing_details"]["name"]}
    settings = box.schemas.blank(box.schemas.properties("customer")["invoice_settings"])
    customer = box.create(
        "customer", **fields, invoice_settings=settings, invoice_prefix=customers.invoice_prefix(),
        next_invoice_sequence=1,
    )  # fmt: skip
    checkout_details.save(box, session, customer)
    box.change(intent, customer=customer["id"])
    if method["customer"] is None:
        box.change(method, customer=customer["id"])
        box.tell(method, "attached")
    return customer


def _subscribe(box: "Sandbox", session: Object, customer: Object | None, intent: Object) -> None:
    assert customer is not None
    items = []
    for item in box.store.where("item", _session=session["id"]):
        quantity = {"quantity": item["quantity"]} if item["quantity"] else {}
        items.append({"price": item["_price"], **quantity})
    params = {
        "customer": customer["id"],
        "items": items,
        "currency": session["currency"],
        "default_payment_method": intent["payment_method"],
    }
    data = session["_data"]["subscription_data"]
    if session["automatic_tax"]["enabled"]:
        params["automatic_tax"] = {"enabled": True}
    subscription = subscriptions.create(box, generic.Call("/v1/subscriptions", {}, data | params))
    box.change(session, subscription=subscription["id"], invoice=subscription["latest_invoice"], setup_intent=None)


def _details(box: "Sandbox", session: Object, customer: Object | None, intent: Object) -> Object:
    """What the session says of its customer in the end: what they typed on the page, then with their card."""
    billing = box.get("payment_method", intent["payment_method"])["billing_details"]
    details: Object = session["customer_details"] or {}
    typed = billing["address"] if any((billing["address"] or {}).values()) else None
    known = box.schemas.neutral("payment_pages_checkout_session_customer_details")
    return known | {
        "address": details.get("address") or typed,
        "email": (customer or {}).get("email") or session["customer_email"] or billing["email"],
        "name": details.get("name") or billing["name"],
        "tax_exempt": (customer or {}).get("tax_exempt") or "none",
        "tax_ids": details.get("tax_ids") or [],
    }


@operation("POST", "/v1/checkout/sessions/{session}/expire")
def expire(box: "Sandbox", call: generic.Call) -> Object:
    session = box.get("checkout.session", call.ids["session"])
    if session["status"] != "open":
        raise invalid(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {session["status"]}.'
        )
    expire_when_due(box, session["id"])
    return session


@job("checkout.expire")
def expire_when_due(box: "Sandbox", key: str) -> None:
    session = box.get("checkout.session", key)
    if session["status"] != "open":
        return
    box.change(session, status="expired", url=None)
    box.agenda.drop("checkout.expire", key)
    intent = box.store.get("payment_intent", session["payment_intent"] or "")
    if intent and intent["status"] in payment_intents.OPEN:
        payment_intents.cancel_intent(box, intent, "expired")
    box.tell(session, "expired")


@operation("GET", "/v1/checkout/sessions/{session}/line_items")
def list_items(box: "Sandbox", call: generic.Call) -> Object:
    session = box.get("checkout.session", call.ids["session"])
    return page(box, box.store.where("item", _session=session["id"]), call.params, call.path)


# What Stripe's hosted page calls. It is not part of the published API; Stripe's own command line uses it.


@operation("GET", "/v1/payment_pages/{session}")
def page_of(box: "Sandbox", call: generic.Call) -> Object:
    session = box.get("checkout.session", call.ids["session"])
    return {"id": session["id"], "session_id": session["id"], "object": None, "currency": session["currency"],
            "line_item_group": {"total": session["amount_total"]}}  # fmt: skip


@operation("POST", "/v1/payment_pages/{session}/confirm")
def confirm_page(box: "Sandbox", call: generic.Call) -> Object:
    session = box.get("checkout.session", call.ids["session"])
    method = {"payment_method": call.params.get("payment_method")}
    if session["payment_intent"]:
        payment_intents.confirm_intent(box, box.get("payment_intent", session["payment_intent"]), method)
    elif session["setup_intent"]:
        setup_intents.confirm_intent(box, box.get("setup_intent", session["setup_intent"]), method)
    else:
        raise StripeError("This session has nothing to confirm.")
    return session
