"""What the Checkout page asks of the customer before it can take their money: an address and a tax id."""

import re
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.store import Object

from . import customers, payment_methods, taxes

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

UNION = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
TAX_ID_OF = dict.fromkeys(UNION.split(), "eu_vat") | {
    "AU": "au_abn", "CA": "ca_bn", "CH": "ch_vat", "GB": "gb_vat", "IN": "in_gst", "JP": "jp_trn", "NO": "no_vat",
    "US": "us_ein",
}  # fmt: skip
"""The kind of tax id asked for in a country; Stripe supports more countries, and several kinds in some."""
TAX_ID = re.compile(r"[A-Z0-9][A-Z0-9./-]{3,29}")
VAT_PREFIX = {"GR": "EL"}


def check(params: dict[str, Any]) -> None:
    """Refuse a session that could not save what it has to ask its customer, in Stripe's words."""
    updates, customer = params.get("customer_update") or {}, params.get("customer")
    if updates and not customer:
        raise invalid("`customer_update` can only be used with `customer`.", param="customer_update")
    if customer and (params.get("tax_id_collection") or {}).get("enabled") and updates.get("name") != "auto":
        raise invalid(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an"
            " existing customer, please set `customer_update[name]` to `auto`.",
            param="customer_update[name]",
        )


def check_place(box: "Sandbox", params: dict[str, Any]) -> None:
    """Automatic tax for a known customer needs their address, or leave to ask for it and keep it."""
    customer = box.store.get("customer", params.get("customer") or "")
    if customer is None or not (params.get("automatic_tax") or {}).get("enabled"):
        return
    asks = (params.get("customer_update") or {}).get("address") == "auto"
    if not asks and not taxes.is_placed(customer["address"]):
        raise invalid(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to"
            " the Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to"
            " 'auto' to save the address entered in Checkout to the Customer.",
            param="automatic_tax",
            code="customer_tax_location_invalid",
        )


def is_asked(box: "Sandbox", session_id: str) -> bool:
    """Whether the page has to ask before it can say what is owed."""
    session = box.get("checkout.session", session_id)
    if session["_collected"]:
        return False
    collects_id = session["tax_id_collection"]["enabled"]
    wants_place = session["automatic_tax"]["status"] == "requires_location_inputs"
    return bool(collects_id or wants_place or session["billing_address_collection"] == "required")


def read(given: dict[str, str], tax_id_collection: Object) -> Object:
    """The page's form as the session keeps it, or a refusal that says which field is at fault."""
    values = {name: text.strip() for name, text in given.items()}
    names = [name for name in payment_methods.ADDRESS if values.get(name)]
    address = payment_methods.ADDRESS | {name: values[name] for name in names}
    for name in ("country", "line1", "city", "postal_code"):
        if not address[name]:
            raise invalid("Fill in country, address, city and postal code.", param=f"address[{name}]")
    if address["country"] == "US" and not address["state"]:
        raise invalid("Fill in the state.", param="address[state]")
    return {
        "address": address,
        "name": values.get("name") or None,
        "tax_ids": _tax_ids(values.get("tax_id", ""), str(address["country"]), tax_id_collection),
    }


def _tax_ids(text: str, country: str, collection: Object) -> list[Object]:
    value, kind = re.sub(r"\s", "", text).upper(), TAX_ID_OF.get(country)
    if not value and kind and collection["required"] == "if_supported":
        raise invalid("A tax ID is required in this country.", param="tax_id")
    if not value or not collection["enabled"]:
        return []
    if kind is None:
        raise invalid("No tax ID is collected in this country.", param="tax_id")
    if not TAX_ID.fullmatch(value) or (kind == "eu_vat" and value[:2] != VAT_PREFIX.get(country, country)):
        raise invalid("This is no tax ID of the country.", param="tax_id", code="tax_id_invalid")
    return [{"type": kind, "value": value}]


def record(box: "Sandbox", session_id: str, given: dict[str, str]) -> None:
    """Keep what the customer typed, and add up anew what they owe."""
    session = box.get("checkout.session", session_id)
    if session["status"] != "open":
        raise invalid("This checkout is no longer open.")
    found = read(given, session["tax_id_collection"])
    details = box.schemas.neutral("payment_pages_checkout_session_customer_details") | {"tax_exempt": "none"}
    details |= {"email": session["customer_email"]} | found
    box.change(session, customer_details=details, _collected=True)
    add_up(box, session)
    if intent := box.store.get("payment_intent", session["payment_intent"] or ""):
        box.change(intent, amount=session["amount_total"])


def add_up(box: "Sandbox", session: Object) -> None:
    """The session's sums, with tax where the customer's place is known."""
    items = box.store.where("item", _session=session["id"])
    state = session["automatic_tax"]
    rate = _rate(box, session) if state["enabled"] else None
    added, contained = 0, 0
    for item in items:
        inclusive = item["price"]["tax_behavior"] == "inclusive"
        tax = taxes.amount(item["amount_subtotal"], rate, inclusive=inclusive) if rate else 0
        on_top = 0 if inclusive else tax
        added, contained = added + on_top, contained + tax - on_top
        box.change(item, amount_tax=tax, amount_total=item["amount_subtotal"] + on_top)
    if state["enabled"]:
        state = state | {"status": "complete" if rate else "requires_location_inputs"}
    subtotal = sum(item["amount_subtotal"] for item in items)
    box.change(
        session,
        amount_subtotal=subtotal,
        amount_total=subtotal + added,
        automatic_tax=state,
        total_details={"amount_discount": 0, "amount_shipping": 0, "amount_tax": added + contained},
    )


def _rate(box: "Sandbox", session: Object) -> taxes.Rate | None:
    customer = box.store.get("customer", session["customer"] or "")
    given: Object = session["customer_details"] or {}
    address = given.get("address") or (customer or {}).get("address")
    if not taxes.is_placed(address):
        return None
    known = taxes.customer_fields(box, customer)["customer_tax_ids"] if customer else []
    return taxes.applied_rate(address, [*known, *(given.get("tax_ids") or [])], (customer or {}).get("tax_exempt"))


def save(box: "Sandbox", session: Object, customer: Object) -> None:
    """Give the customer what they typed: all of it to one made here, else what ``customer_update`` allows."""
    given: Object = session["customer_details"] or {}
    is_new = session["customer"] is None
    changes = {}
    for name in ("address", "name"):
        if given.get(name) and (is_new or session["_updates"].get(name) == "auto"):
            changes[name] = given[name]
    box.change(customer, tell=True, **changes)
    held = {(t["type"], t["value"]) for t in taxes.customer_fields(box, customer)["customer_tax_ids"]}
    for each in given.get("tax_ids") or []:
        if (each["type"], each["value"]) not in held:
            customers.add_tax_id(box, customer, each)
