"""Payment methods: cards by Stripe's test numbers and names, and Link."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import cards, generic
from billing_portal.sandbox.errors import StripeError, declined, invalid, missing
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import page
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("payment_method", "pm", "/v1/payment_methods", defaults={"allow_redisplay": "unspecified"})

BILLING_DETAILS = {"address": None, "email": None, "name": None, "phone": None, "tax_id": None}
ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}


def resolve(box: "Sandbox", name: str, *, param: str = "payment_method") -> Object:
    """The payment method with this id; a ``pm_card_…`` name makes a new one, as it does at Stripe."""
    if card := cards.by_name(name):
        details = {"billing_details": _billing_details({}), "metadata": {}}
        return box.create("payment_method", emit=False, **details, **_card_fields(box, card, {}))
    method = box.store.get("payment_method", name)
    if method is None:
        raise missing("payment_method", name, param=param, status=400)
    return method


def card_of(method: Object) -> cards.Card:
    """The test card behind a stored payment method; Link pays like a plain Visa."""
    return cards.CARDS.get(method.get("_number", ""), cards.CARDS["4242424242424242"])


def build(box: "Sandbox", params: dict[str, Any]) -> Object:
    """Make a payment method from the fields a form sends."""
    kind = params.get("type")
    fields: dict[str, Any] = {"billing_details": _billing_details(params.get("billing_details") or {})}
    if "allow_redisplay" in params:
        fields["allow_redisplay"] = params["allow_redisplay"]
    fields["metadata"] = {k: v for k, v in (params.get("metadata") or {}).items() if v != ""}
    if kind == "card":
        details = params.get("card") or {}
        fields |= _card_fields(box, _card(details), details)
    elif kind == "link":
        fields |= {"type": "link", "link": {"email": fields["billing_details"]["email"]}}
    elif kind is None:
        raise invalid("Missing required param: type.", param="type", code="parameter_missing")
    else:
        raise StripeError(f"The sandbox has no payment method {kind}", status=501, type="api_error", param="type")
    return box.create("payment_method", emit=False, **fields)


def _billing_details(given: dict[str, Any]) -> Object:
    details = BILLING_DETAILS | {k: v if v != "" else None for k, v in given.items()}
    details["address"] = ADDRESS | (details["address"] or {})
    return details


def _card(details: dict[str, Any]) -> cards.Card:
    if token := details.get("token"):
        card = cards.by_name(token)
        if card is None:
            raise invalid(f"No such token: '{token}'", param="card[token]", code="resource_missing")
        return card
    number = str(details.get("number", "")).replace(" ", "")
    if not number.isdigit() or not cards.is_luhn(number):
        raise declined("Your card number is incorrect.", code="incorrect_number", param="number")
    card = cards.by_number(number)
    if card is None:
        raise declined(
            "Your card was declined. Your request was in test mode, but used a non test card. For a list of valid"
            " test cards, visit: https://stripe.com/docs/testing.",
            code="card_declined", decline_code="test_mode_live_card", param="",
        )  # fmt: skip
    return card


def _card_fields(box: "Sandbox", card: cards.Card, details: dict[str, Any]) -> dict[str, Any]:
    month, year = _expiry(box, details)
    networks = {"available": [card.brand], "preferred": None}
    shown = box.schemas.neutral("payment_method_card") | {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": card.cvc_check if "cvc" in details else None,
        },
        "country": card.country,
        "display_brand": card.brand,
        "exp_month": month,
        "exp_year": year,
        "fingerprint": card.fingerprint,
        "funding": card.funding,
        "last4": card.last4,
        "networks": networks,
        "three_d_secure_usage": {"supported": True},
    }
    return {"type": "card", "card": shown, "_number": card.number}


def _expiry(box: "Sandbox", details: dict[str, Any]) -> tuple[int, int]:
    """The expiry given, refused if past; names and tokens expire next year."""
    year_now, month_now = box.date()[:2]
    if "exp_month" not in details:
        return month_now, year_now + 1
    month, year = details["exp_month"], details["exp_year"]
    year += 2000 if year < 100 else 0
    if not 1 <= month <= 12:
        raise declined("Your card's expiration month is invalid.", code="invalid_expiry_month", param="exp_month")
    if (year, month) < (year_now, month_now) or year > year_now + 50:
        raise declined("Your card's expiration year is invalid.", code="invalid_expiry_year", param="exp_year")
    return month, year


def is_expired(box: "Sandbox", method: Object) -> bool:
    card = method.get("card")
    return card is not None and (card["exp_year"], card["exp_month"]) < box.date()[:2]


@operation("POST", "/v1/payment_methods")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    if "payment_method" in params:
        raise StripeError("The sandbox does not clone payment methods", status=501, type="api_error")
    return build(box, params)


@operation("POST", "/v1/payment_methods/{payment_method}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    method = box.get("payment_method", call.id)
    if method["customer"] is None:
        raise invalid(
            "You must save this PaymentMethod to a customer before you can update it.",
            code="payment_method_unexpected_state",
        )
    changes = box.overlay("payment_method", call.params, method)
    if "card" in call.params:
        expiry = {k: v for k, v in call.params["card"].items() if k in {"exp_month", "exp_year"}}
        changes["card"] = method["card"] | expiry
    box.change(method, tell=True, **changes)
    return method


@operation("POST", "/v1/payment_methods/{payment_method}/attach")
def attach(box: "Sandbox", call: generic.Call) -> Object:
    method = resolve(box, call.ids["payment_method"])
    if "customer" not in call.params:
        raise invalid("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = box.get("customer", call.params["customer"], param="customer")
    attach_to(box, method, customer)
    return method


def attach_to(box: "Sandbox", method: Object, customer: Object) -> None:
    """Save a payment method to a customer; the bank is asked first, and some test cards say no."""
    if method["customer"] == customer["id"]:
        return
    if method["customer"] is not None or method.get("_detached"):
        raise invalid(
            "This PaymentMethod was previously used without being attached to a Customer or was detached from a"
            " Customer, and may not be used again."
            if method.get("_detached")
            else "The payment method you provided has already been attached to a customer.",
            code="payment_method_unexpected_state",
        )
    card = card_of(method)
    if method["type"] == "card" and card.decline and not card.attaches:
        raise declined(cards.MESSAGES[card.decline], code=cards.error_code(card.decline), decline_code=card.decline)
    box.change(method, customer=customer["id"])
    box.tell(method, "attached")


@operation("POST", "/v1/payment_methods/{payment_method}/detach")
def detach(box: "Sandbox", call: generic.Call) -> Object:
    method = box.get("payment_method", call.ids["payment_method"])
    customer = box.store.get("customer", method["customer"] or "")
    if customer is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
            code="payment_method_unexpected_state",
        )
    before = box.change(method, customer=None, _detached=True)
    _forget_default(box, customer, method["id"])
    box.tell(method, "detached", before)
    return method


def _forget_default(box: "Sandbox", customer: Object, method: str) -> None:
    settings = customer["invoice_settings"]
    if settings["default_payment_method"] == method:
        box.change(customer, tell=True, invoice_settings=settings | {"default_payment_method": None})
    for subscription in box.store.where("subscription", customer=customer["id"]):
        if subscription["default_payment_method"] == method:
            box.change(subscription, tell=True, default_payment_method=None)


@operation("GET", "/v1/payment_methods")
def list_all(box: "Sandbox", call: generic.Call) -> Object:
    return _page(box, call, call.params.get("customer"))


@operation("GET", "/v1/customers/{customer}/payment_methods")
def list_of_customer(box: "Sandbox", call: generic.Call) -> Object:
    return _page(box, call, box.get("customer", call.ids["customer"])["id"])


def _page(box: "Sandbox", call: generic.Call, customer: str | None) -> Object:
    """Stripe lists saved methods only; without a customer it lists those attached to none of the account's."""
    found = box.store.where("payment_method", customer=customer) if customer else []
    for name in ("type", "allow_redisplay"):
        if name in call.params:
            found = [method for method in found if method.get(name) == call.params[name]]
    return page(box, found[::-1], call.params, call.path)


@operation("GET", "/v1/customers/{customer}/payment_methods/{payment_method}")
def retrieve_of_customer(box: "Sandbox", call: generic.Call) -> Object:
    method = box.get("payment_method", call.id)
    if method["customer"] != call.ids["customer"]:
        raise missing("payment_method", call.id)
    return method
