"""Events as the API lists them, and the endpoints they are sent to."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.rendering import render
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox


def _is_type(event: Object, wanted: str) -> bool:
    """A type, or a family of them such as ``invoice.*``."""
    if wanted.endswith("*"):
        return bool(event["type"].startswith(wanted[:-1]))
    return bool(event["type"] == wanted)


resource(
    "event",
    "evt",
    "/v1/events",
    filters={
        "type": _is_type,
        "types": lambda event, types: any(_is_type(event, wanted) for wanted in types),
        "delivery_success": lambda event, wanted: (event["pending_webhooks"] == 0) == wanted,
    },
)
resource("webhook_endpoint", "we", "/v1/webhook_endpoints", defaults={"status": "enabled"})


@operation("POST", "/v1/webhook_endpoints")
def create(box: "Sandbox", call: generic.Call) -> Object:
    """The secret is shown in this one answer only."""
    params = {k: v for k, v in call.params.items() if k != "connect"}
    secret = box.new_id("whsec", 32)
    endpoint = box.create("webhook_endpoint", **box.overlay("webhook_endpoint", params), _secret=secret)
    return render(box, endpoint) | {"secret": secret}


@operation("POST", "/v1/webhook_endpoints/{webhook_endpoint}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    endpoint = box.get("webhook_endpoint", call.id)
    changes = box.overlay("webhook_endpoint", call.params, endpoint)
    if "disabled" in call.params:
        changes["status"] = "disabled" if call.params["disabled"] else "enabled"
    box.change(endpoint, **changes)
    return endpoint
