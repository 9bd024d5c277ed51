"""Products and prices; also coupons and tax rates, which are plain records here."""

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import currencies, generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import as_list
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

MAX_DECIMALS = 12


def _present_price(box: "Sandbox", price: Object, shown: Object) -> None:
    shown.pop("tiers", None)
    shown.pop("currency_options", None)


resource(
    "product",
    "prod",
    "/v1/products",
    defaults={"active": True},
    filters={"ids": lambda product, ids: product["id"] in ids},
)
resource(
    "price",
    "price",
    "/v1/prices",
    defaults={"tax_behavior": "unspecified"},
    present=_present_price,
    includes={
        "tiers": lambda box, price: price.get("tiers"),
        "currency_options": lambda box, price: price.get("currency_options"),
    },
    filters={
        "lookup_keys": lambda price, keys: price["lookup_key"] in keys,
        "recurring": lambda price, wanted: all((price["recurring"] or {}).get(k) == v for k, v in wanted.items()),
    },
)
resource("coupon", "coupon", "/v1/coupons", defaults={"valid": True, "times_redeemed": 0})
resource("tax_rate", "txr", "/v1/tax_rates", defaults={"active": True})
resource("promotion_code", "promo", "/v1/promotion_codes", defaults={"active": True})
resource("plan", "plan")


@operation("POST", "/v1/products")
def create_product(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    default = params.pop("default_price_data", None)
    if "id" in params and box.store.get("product", params["id"]):
        raise invalid(f"Product already exists with id: {params['id']}", param="id", code="resource_already_exists")
    product = box.create("product", **box.overlay("product", params), updated=box.now())
    if default:
        price = make_price(box, default | {"product": product["id"]})
        box.change(product, default_price=price["id"])
    return product


@operation("POST", "/v1/products/{id}")
def update_product(box: "Sandbox", call: generic.Call) -> Object:
    product = box.get("product", call.id)
    generic.check_references(box, "product", call.params)
    changes = box.overlay("product", call.params, product)
    box.change(product, tell=True, **changes, updated=box.now())
    return product


@operation("DELETE", "/v1/products/{id}")
def delete_product(box: "Sandbox", call: generic.Call) -> Object:
    product = box.get("product", call.id)
    if box.store.where("price", product=product["id"]):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.", param="id")
    generic.remove(box, product)
    return {"id": product["id"], "object": "product", "deleted": True}


@operation("GET", "/v1/products/{product}/features")
def list_features(box: "Sandbox", call: generic.Call) -> Object:
    """Entitlements are no part of the sandbox: a product has none."""
    box.get("product", call.ids["product"])
    return as_list([], call.path)


@operation("POST", "/v1/prices")
def create_price(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    if data := params.pop("product_data", None):
        product = box.create("product", **box.overlay("product", data), updated=box.now())
        params["product"] = product["id"]
    if "product" not in params:
        raise invalid("Missing required param: product.", param="product", code="parameter_missing")
    box.get("product", params["product"], param="product")
    return make_price(box, params)


def make_price(box: "Sandbox", params: dict[str, Any]) -> Object:
    """A price from a request's fields."""
    currency = currencies.check(params["currency"])
    scheme = params.get("billing_scheme", "per_unit")
    fields = box.overlay("price", params)
    if scheme == "per_unit" and not params.get("custom_unit_amount"):
        fields |= unit_amounts(params)
    if "tiers" in params:
        fields["tiers"] = [_tier(tier) for tier in params["tiers"]]
    options = {currency: _option(fields)}
    for other, option in (params.get("currency_options") or {}).items():
        options[currencies.check(other)] = _option(option | unit_amounts(option))
    return box.create(
        "price",
        **fields
        | {
            "billing_scheme": scheme,
            "currency": currency,
            "active": params.get("active", True),
            "recurring": _recurring(box, params.get("recurring")),
            "type": "recurring" if params.get("recurring") else "one_time",
            "currency_options": options,
        },
    )


def _recurring(box: "Sandbox", given: dict[str, Any] | None) -> Object | None:
    if not given:
        return None
    recurring = {"interval_count": 1, "meter": None, "usage_type": "licensed"} | given
    if recurring["usage_type"] == "metered" and not recurring["meter"]:
        raise invalid(
            "Metered prices must be backed by a meter: pass `recurring[meter]`.",
            param="recurring[meter]",
            code="parameter_missing",
        )
    if recurring["meter"]:
        if recurring["usage_type"] != "metered":
            raise invalid(
                "`recurring[meter]` can only be used with `recurring[usage_type]=metered`.",
                param="recurring[usage_type]",
            )
        meter = box.get("billing.meter", recurring["meter"], param="recurring[meter]")
        if meter["status"] != "active":
            raise invalid(f"The meter {meter['id']} is inactive.", param="recurring[meter]")
    return recurring


def unit_amounts(params: dict[str, Any]) -> dict[str, Any]:
    """Both spellings of a unit's price; fractions of a minor unit exist only in the decimal one."""
    if "unit_amount" in params and "unit_amount_decimal" in params:
        raise invalid("You may only specify one of these parameters: unit_amount, unit_amount_decimal.")
    if "unit_amount" in params:
        return {"unit_amount": params["unit_amount"], "unit_amount_decimal": str(params["unit_amount"])}
    if "unit_amount_decimal" not in params:
        return {}
    amount = decimal(params["unit_amount_decimal"], "unit_amount_decimal")
    whole = int(amount) if amount == amount.to_integral_value() else None
    return {"unit_amount": whole, "unit_amount_decimal": f"{amount.normalize():f}"}


def decimal(text: str, param: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise invalid(f"Invalid decimal: {text}", param=param, code="parameter_invalid_decimal") from None
    places = -int(amount.as_tuple().exponent) if amount.is_finite() else MAX_DECIMALS + 1
    if places > MAX_DECIMALS:
        raise invalid(f"Invalid decimal: {text}; must contain at maximum {MAX_DECIMALS} decimal places.", param=param)
    return amount


def _tier(tier: dict[str, Any]) -> Object:
    shown: Object = {"flat_amount": None, "flat_amount_decimal": None, "unit_amount": None, "unit_amount_decimal": None}
    shown |= unit_amounts(tier)
    if "flat_amount" in tier:
        shown |= {"flat_amount": tier["flat_amount"], "flat_amount_decimal": str(tier["flat_amount"])}
    elif "flat_amount_decimal" in tier:
        shown["flat_amount_decimal"] = tier["flat_amount_decimal"]
    return shown | {"up_to": None if tier["up_to"] == "inf" else tier["up_to"]}


def _option(fields: dict[str, Any]) -> Object:
    names = ("unit_amount", "unit_amount_decimal", "tax_behavior", "custom_unit_amount")
    option = {name: fields.get(name) for name in names}
    if fields.get("tiers"):
        option["tiers"] = fields["tiers"]
    return option


@operation("POST", "/v1/prices/{price}")
def update_price(box: "Sandbox", call: generic.Call) -> Object:
    price = box.get("price", call.id)
    params = dict(call.params)
    options = params.pop("currency_options", None)
    changes = box.overlay("price", params, price)
    if options:
        merged = dict(price["currency_options"])
        for currency, option in options.items():
            merged[currencies.check(currency)] = _option(option | unit_amounts(option))
        changes["currency_options"] = merged
    box.change(price, tell=True, **changes)
    return price
