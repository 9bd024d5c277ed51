"""Sessions that let a customer act in a browser: customer sessions and Stripe's own customer portal."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.registry import operation, resource
from billing_portal.sandbox.store import Object

from . import intents

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

resource("customer_session", "cuss", key="client_secret")
resource("billing_portal.configuration", "bpc", "/v1/billing_portal/configurations", defaults={"active": True})
resource("billing_portal.session", "bps")

LIFETIME = 30 * 60


@operation("POST", "/v1/customer_sessions")
def create_customer_session(box: "Sandbox", call: generic.Call) -> Object:
    """Opens a customer's saved cards to the Payment Element for half an hour."""
    customer = box.get("customer", call.params.get("customer"), param="customer")
    schema = box.schemas.properties("customer_session")["components"]
    return box.create(
        "customer_session",
        client_secret=intents.new_secret(box.new_id("cuss")),
        components=box.schemas.overlay(schema, call.params["components"]),
        customer=customer["id"],
        expires_at=box.now() + LIFETIME,
    )


@operation("POST", "/v1/billing_portal/configurations")
def create_configuration(box: "Sandbox", call: generic.Call) -> Object:
    return _configuration(box, call.params, is_default=False)


def _configuration(box: "Sandbox", params: dict[str, object], *, is_default: bool) -> Object:
    fields = box.overlay("billing_portal.configuration", params)
    blank = box.schemas.neutral("billing_portal.configuration")
    fields["features"] = blank["features"] | fields.get("features", {})
    return box.create("billing_portal.configuration", **fields, is_default=is_default, updated=box.now())


@operation("POST", "/v1/billing_portal/configurations/{configuration}")
def update_configuration(box: "Sandbox", call: generic.Call) -> Object:
    found = box.get("billing_portal.configuration", call.id)
    changes = box.overlay("billing_portal.configuration", call.params, found)
    box.change(found, tell=True, **changes, updated=box.now())
    return found


@operation("POST", "/v1/billing_portal/sessions")
def create_session(box: "Sandbox", call: generic.Call) -> Object:
    params = call.params
    customer = box.get("customer", params.get("customer"), param="customer")
    if name := params.get("configuration"):
        configuration = box.get("billing_portal.configuration", name, param="configuration")
    else:
        defaults = box.store.where("billing_portal.configuration", is_default=True)
        configuration = defaults[0] if defaults else _configuration(box, {}, is_default=True)
    identifier = box.new_id("bps")
    return box.create(
        "billing_portal.session",
        id=identifier,
        configuration=configuration["id"],
        customer=customer["id"],
        return_url=params.get("return_url"),
        locale=params.get("locale"),
        url=f"{box.base_url}/p/session/{identifier}",
    )
