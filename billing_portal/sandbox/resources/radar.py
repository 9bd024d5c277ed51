"""Radar's lists, and what issuers report. Its rules live in the dashboard only: here they are switches under
``/_sandbox/faults``.
"""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import listener, operation, resource
from billing_portal.sandbox.rendering import as_list, render
from billing_portal.sandbox.store import Object

from . import payment_methods

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

OWNER = "owner@example.com"


def _present(box: "Sandbox", value_list: Object, shown: Object) -> None:
    found = box.store.where("radar.value_list_item", value_list=value_list["id"])
    items = [render(box, item) for item in found if not item.get("_deleted")]
    shown["list_items"] = as_list(items[::-1], f"/v1/radar/value_list_items?value_list={value_list['id']}")


resource(
    "radar.value_list",
    "rsl",
    "/v1/radar/value_lists",
    defaults={"created_by": OWNER, "item_type": "string"},
    present=_present,
    filters={"contains": lambda value_list, _wanted: True},
)
resource("radar.value_list_item", "rsli", "/v1/radar/value_list_items", defaults={"created_by": OWNER})


@operation("POST", "/v1/radar/value_list_items")
def add(box: "Sandbox", call: generic.Call) -> Object:
    box.get("radar.value_list", call.params["value_list"], param="value_list")
    for item in box.store.where("radar.value_list_item", value_list=call.params["value_list"]):
        if item["value"] == call.params["value"] and not item.get("_deleted"):
            raise invalid("The value is already in the list.", param="value", code="resource_already_exists")
    return box.create("radar.value_list_item", **box.overlay("radar.value_list_item", call.params))


# ── What a card's issuer reports before there is a dispute ────────────────────────────────────────────────────────────

resource("radar.early_fraud_warning", "issfr", "/v1/radar/early_fraud_warnings")


@listener("payment_intent.succeeded")
def warn(box: "Sandbox", intent: Object) -> None:
    """The issuer of a test card made for it reports the charge as fraud."""
    charge = box.get("charge", intent["latest_charge"])
    fraud_type = payment_methods.card_of(box.get("payment_method", charge["payment_method"])).warning
    if fraud_type is not None:
        warning = box.create(
            "radar.early_fraud_warning",
            emit=False,
            actionable=True,
            charge=charge["id"],
            fraud_type=fraud_type,
            payment_intent=intent["id"],
        )
        box.tell(warning, "created")


@listener("charge.refunded")
def nothing_to_do_any_more(box: "Sandbox", charge: Object) -> None:
    """A warning is not actionable once its charge was given back in full."""
    if charge["refunded"]:
        for warning in box.store.where("radar.early_fraud_warning", charge=charge["id"]):
            if warning["actionable"]:
                box.tell(warning, "updated", box.change(warning, actionable=False))
