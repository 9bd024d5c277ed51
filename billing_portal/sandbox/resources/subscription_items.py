"""The items of a subscription: at most twenty, each a price and, unless it is metered, a quantity."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid, missing
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import page, render
from billing_portal.sandbox.store import Object

from . import products, prorations

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

MOST = 20


def _present(box: "Sandbox", item: Object, shown: Object) -> None:
    price = render(box, box.store.tables["price"][item["_price"]])
    shown["price"] = price
    if price["recurring"]["usage_type"] == "metered":
        shown.pop("quantity", None)


resource("subscription_item", "si", "/v1/subscription_items", present=_present)


def of(box: "Sandbox", subscription: Object) -> list[Object]:
    found = box.store.where("subscription_item", subscription=subscription["id"])
    return [item for item in found if not item.get("_deleted")]


def is_metered(box: "Sandbox", item: Object) -> bool:
    return bool(box.get("price", item["_price"])["recurring"]["usage_type"] == "metered")


def read(box: "Sandbox", wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of a request with their prices checked, or made from ``price_data``."""
    if len(wanted) > MOST:
        raise _too_many()
    checked = []
    for index, given in enumerate(wanted):
        item = dict(given)
        if data := item.pop("price_data", None):
            item["price"] = products.make_price(box, data)["id"]
        price = box.get("price", item.get("price"), param=f"items[{index}][price]")
        if price["type"] != "recurring":
            raise invalid(
                "The price specified is set to `type=one_time` but this field only accepts prices with"
                " `type=recurring`.",
                param=f"items[{index}][price]",
            )
        _check_quantity(price, item, f"items[{index}][quantity]")
        checked.append(item)
    names = [item["price"] for item in checked]
    if len(set(names)) < len(names):
        raise invalid("Cannot add multiple subscription items with the same price.", param="items")
    return checked


def _check_quantity(price: Object, item: dict[str, Any], param: str) -> None:
    if price["recurring"]["usage_type"] == "metered" and "quantity" in item:
        raise invalid("You cannot set the quantity for metered plans.", param=param)


def _too_many() -> Exception:
    return invalid(f"A subscription can have at most {MOST} items.", param="items")


def add(box: "Sandbox", subscription: Object, item: dict[str, Any]) -> Object:
    """Put an item on a subscription. Usage from before this instant is never billed through it."""
    price = box.get("price", item["price"], param="price")
    if price["currency"] != subscription["currency"] and subscription["currency"] not in price["currency_options"]:
        raise invalid(
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected currency:"
            f" `{subscription['currency']}`.",
            param="price",
        )
    fields = {"metadata": item.get("metadata") or {}}
    if price["recurring"]["usage_type"] == "licensed":
        fields["quantity"] = item.get("quantity", 1)
    now = box.time_of(subscription)
    return box.create(
        "subscription_item",
        emit=False,
        **fields,
        created=now,
        subscription=subscription["id"],
        tax_rates=[],
        current_period_start=subscription["_period_start"],
        current_period_end=subscription["_period_end"],
        _price=price["id"],
        _usage_from=now,
    )


def start_period(box: "Sandbox", subscription: Object) -> None:
    bounds = {
        "current_period_start": subscription["_period_start"],
        "current_period_end": subscription["_period_end"],
    }
    for item in of(box, subscription):
        box.change(item, **bounds)


def change_all(box: "Sandbox", subscription: Object, wanted: list[dict[str, Any]], behavior: str) -> None:
    """Carry out the ``items`` of a subscription's update: entries with an id change, others are new."""
    for index, item in enumerate(wanted):
        if "id" not in item:
            if len(of(box, subscription)) >= MOST:
                raise _too_many()
            (checked,) = read(box, [item])
            _refuse_twice(box, subscription, checked["price"])
            prorations.charge(box, add(box, subscription, checked), behavior)
            continue
        existing = box.get("subscription_item", item["id"], param=f"items[{index}][id]")
        if existing["subscription"] != subscription["id"]:
            raise missing("subscription_item", item["id"], param=f"items[{index}][id]", status=400)
        if item.get("deleted"):
            _remove(box, existing, behavior)
        else:
            _change(box, existing, item, behavior)


def _refuse_twice(box: "Sandbox", subscription: Object, price: str) -> None:
    if any(item["_price"] == price for item in of(box, subscription)):
        raise invalid(f"Cannot add multiple subscription items with the same plan: {price}", param="price")


def _change(box: "Sandbox", item: Object, params: dict[str, Any], behavior: str) -> None:
    """Switching the price starts counting usage anew."""
    if not is_metered(box, item) and {"price", "quantity"} & params.keys():
        prorations.credit(box, item, behavior)
    if price := params.get("price"):
        found = box.get("price", price, param="price")
        if found["id"] != item["_price"]:
            box.change(item, _price=found["id"], _usage_from=box.now())
    if "quantity" in params:
        _check_quantity(box.get("price", item["_price"]), params, "quantity")
        box.change(item, quantity=params["quantity"])
    if "metadata" in params:
        box.change(item, **box.overlay("subscription_item", {"metadata": params["metadata"]}, item))
    if not is_metered(box, item) and {"price", "quantity"} & params.keys():
        prorations.charge(box, item, behavior)


def _remove(box: "Sandbox", item: Object, behavior: str) -> None:
    subscription = box.get("subscription", item["subscription"])
    if len(of(box, subscription)) == 1:
        raise invalid("A subscription must have at least one active plan.", param="items")
    if not is_metered(box, item):
        prorations.credit(box, item, behavior)
    box.store.change(item, _deleted=True)


@operation("POST", "/v1/subscription_items")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    subscription = box.get("subscription", params.pop("subscription"), param="subscription")
    behavior = params.pop("proration_behavior", "create_prorations")
    before = box.retrieve("subscription", subscription["id"])
    change_all(box, subscription, [params], behavior)
    _tell(box, subscription, before)
    return of(box, subscription)[-1]


@operation("POST", "/v1/subscription_items/{item}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    item = box.get("subscription_item", call.id)
    subscription = box.get("subscription", item["subscription"])
    before = box.retrieve("subscription", subscription["id"])
    _change(box, item, call.params, call.params.get("proration_behavior", "create_prorations"))
    _tell(box, subscription, before)
    return item


@operation("DELETE", "/v1/subscription_items/{item}")
def delete(box: "Sandbox", call: generic.Call) -> Object:
    item = box.get("subscription_item", call.id)
    subscription = box.get("subscription", item["subscription"])
    before = box.retrieve("subscription", subscription["id"])
    _remove(box, item, call.params.get("proration_behavior", "create_prorations"))
    _tell(box, subscription, before)
    return {"id": item["id"], "object": "subscription_item", "deleted": True}


def _tell(box: "Sandbox", subscription: Object, before: Object) -> None:
    after = box.retrieve("subscription", subscription["id"])
    if before["items"] != after["items"]:
        box.tell(subscription, "updated", {"items": before["items"]})


@operation("GET", "/v1/subscription_items")
def list_all(box: "Sandbox", call: generic.Call) -> Object:
    subscription = box.get("subscription", call.params["subscription"], param="subscription")
    return page(box, of(box, subscription), call.params, call.path)
