"""Usage alerts: an event when a customer's usage of a meter passes a threshold, once."""

from typing import TYPE_CHECKING

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import invalid
from billing_portal.sandbox.registry import job, operation, resource
from billing_portal.sandbox.store import Object

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

KIND = "billing.alert"
resource(
    KIND,
    "alrt",
    "/v1/billing/alerts",
    defaults={"status": "active"},
    filters={"meter": lambda alert, wanted: alert["usage_threshold"]["meter"] == wanted},
)
resource("billing.alert_triggered", "alrtt", key="_id")


@operation("POST", "/v1/billing/alerts")
def create(box: "Sandbox", call: generic.Call) -> Object:
    threshold = call.params.get("usage_threshold")
    if not threshold or "meter" not in threshold:
        raise invalid("Missing required param: usage_threshold[meter].", param="usage_threshold[meter]",
                      code="parameter_missing")  # fmt: skip
    box.get("billing.meter", threshold["meter"], param="usage_threshold[meter]")
    filters = [{"type": "customer", "customer": f.get("customer")} for f in threshold.get("filters") or ()]
    shown = {k: threshold[k] for k in ("gte", "meter", "recurrence")} | {"filters": filters or None}
    fields = {"alert_type": call.params["alert_type"], "title": call.params["title"]}
    return box.create(KIND, emit=False, **fields, usage_threshold=shown)


@operation("POST", "/v1/billing/alerts/{id}/activate")
@operation("POST", "/v1/billing/alerts/{id}/deactivate")
@operation("POST", "/v1/billing/alerts/{id}/archive")
def change_status(box: "Sandbox", call: generic.Call) -> Object:
    alert = box.get(KIND, call.ids["id"])
    verb = call.path.rpartition("/")[2]
    box.change(alert, status={"activate": "active", "deactivate": "inactive", "archive": "archived"}[verb])
    return alert


@job("alerts.check")
def check(box: "Sandbox", target: str) -> None:
    """Look whether a customer's usage of a meter has passed a threshold since the alert was made."""
    meter, customer = target.split("|")
    for alert in box.store.all(KIND):
        threshold = alert["usage_threshold"]
        named = [f["customer"] for f in threshold["filters"] or ()]
        if alert["status"] != "active" or threshold["meter"] != meter or (named and customer not in named):
            continue
        events = [e for e in box.store.where("billing.meter_event", _meter=meter) if e["_owner"] == customer]
        value = sum(e["_value"] for e in events if not e.get("_canceled"))
        told: list[str] = alert.get("_told") or []
        if value >= threshold["gte"] and customer not in told:
            box.store.change(alert, _told=[*told, customer])
            _trigger(box, alert, customer, value)


def _trigger(box: "Sandbox", alert: Object, customer: str, value: int) -> None:
    """Stripe's specification names the event but not its object, so this one is from the documentation."""
    made = {
        "object": "billing.alert_triggered",
        "alert": box.retrieve(KIND, alert["id"]),
        "created": box.now(),
        "customer": customer,
        "livemode": False,
        "value": value,
    }
    box.emit("billing.alert.triggered", made)
