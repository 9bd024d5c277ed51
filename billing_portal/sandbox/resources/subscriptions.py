"""Subscriptions: what is billed, to whom, and when the next period starts."""

from typing import TYPE_CHECKING, Any

from billing_portal.sandbox import generic
from billing_portal.sandbox.errors import StripeError, invalid
from billing_portal.sandbox.registry import job, operation, resource
from billing_portal.sandbox.rendering import as_list, page, render
from billing_portal.sandbox.store import Object

from . import billing, cycles, invoices, subscription_items

if TYPE_CHECKING:
    from billing_portal.sandbox.engine import Sandbox

LIST_LIMIT = 20


def _present(box: "Sandbox", subscription: Object, shown: Object) -> None:
    found = subscription_items.of(box, subscription)
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    shown["items"] = as_list([render(box, item) for item in found], url)


def _has_status(subscription: Object, wanted: str) -> bool:
    if wanted == "all":
        return True
    if wanted == "ended":
        return subscription["status"] in {"canceled", "incomplete_expired"}
    return bool(subscription["status"] == wanted)


resource(
    "subscription",
    "sub",
    "/v1/subscriptions",
    events="customer.subscription",
    present=_present,
    defaults={
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "default_tax_rates": [],  # null is valid, but Stripe sends a list and dj-stripe needs one
        "status": "active",
        "collection_method": "charge_automatically",
    },
    filters={
        "status": _has_status,
        "automatic_tax": lambda subscription, wanted: subscription["automatic_tax"]["enabled"] == wanted["enabled"],
    },
)


@operation("GET", "/v1/subscriptions")
def list_all(box: "Sandbox", call: generic.Call) -> Object:
    """Ended subscriptions are listed only when asked for."""
    params = dict(call.params)
    price = params.pop("price", None)
    for name in ("current_period_start", "current_period_end"):
        if name in params:
            raise StripeError(f"The sandbox does not filter by {name}", status=501, type="api_error")
    found = generic.select(box, billing.declared("subscription"), params)
    if "status" not in params:
        found = [s for s in found if not _has_status(s, "ended")]
    if price:
        found = [s for s in found if any(i["_price"] == price for i in subscription_items.of(box, s))]
    return page(box, found, call.params, call.path)


@operation("POST", "/v1/subscriptions")
def create(box: "Sandbox", call: generic.Call) -> Object:
    params = dict(call.params)
    if "customer" not in params:
        raise invalid("Missing required param: customer.", param="customer", code="parameter_missing")
    generic.check_references(box, "subscription", params)
    customer = box.get("customer", params["customer"], param="customer")
    _check_method(box, params.get("default_payment_method"), customer)
    wanted = subscription_items.read(box, params.pop("items", []))
    if not wanted:
        raise invalid("Missing required param: items.", param="items", code="parameter_missing")
    subscription = _open(box, customer, params, wanted)
    for item in wanted:
        subscription_items.add(box, subscription, item)
    box.tell(subscription, "created")
    box.schedule("subscription.cycle", subscription, subscription["_period_end"])
    _plan_cancellation(box, subscription)
    if subscription["status"] != "trialing":
        billing.first_invoice(box, subscription, params.get("payment_behavior", "allow_incomplete"))
    return subscription


def _check_method(box: "Sandbox", method: str | None, customer: Object) -> None:
    found = box.store.get("payment_method", method or "")
    if found and found["customer"] != customer["id"]:
        raise invalid(
            f"The customer does not have a payment method with the ID {method}. The payment method must be attached"
            " to the customer.",
            param="default_payment_method",
            code="resource_missing",
        )


def _open(box: "Sandbox", customer: Object, params: dict[str, Any], wanted: list[Object]) -> Object:
    now = box.time_of(customer)
    recurring = box.get("price", wanted[0]["price"])["recurring"]
    currency = params.get("currency") or box.get("price", wanted[0]["price"])["currency"]
    _settle_currency(box, customer, currency)
    anchor, period_end, trial_end = _periods(now, params, recurring)
    fields = box.overlay("subscription", params)
    for name in ("billing_cycle_anchor", "trial_end", "cancel_at", "billing_mode", "automatic_tax"):
        fields.pop(name, None)
    liability = {"type": "self"} if (params.get("automatic_tax") or {}).get("enabled") else None
    enabled = {"disabled_reason": None, "enabled": liability is not None, "liability": liability}
    return box.create(
        "subscription",
        emit=False,
        **fields
        | {
            "automatic_tax": enabled,
            "billing_cycle_anchor": anchor,
            "billing_mode": _billing_mode(params),
            "cancel_at": params.get("cancel_at") if isinstance(params.get("cancel_at"), int) else None,
            "currency": currency,
            "start_date": now,
            "status": "trialing" if trial_end else "active",
            "trial_start": now if trial_end else None,
            "trial_end": trial_end,
            "test_clock": customer["test_clock"],
            "_period_start": now,
            "_period_end": period_end,
            "_interval": recurring["interval"],
            "_interval_count": recurring["interval_count"],
        },
    )


def _settle_currency(box: "Sandbox", customer: Object, currency: str) -> None:
    """A customer's first billed currency is theirs from then on."""
    if customer["currency"] not in {None, currency}:
        raise invalid(
            "You cannot combine currencies on a single customer. This customer has an active subscription,"
            " subscription schedule, discount, quote, or invoice item with currency"
            f" {customer['currency']}.",
            param="currency",
        )
    box.change(customer, currency=currency)


def _billing_mode(params: dict[str, Any]) -> Object:
    mode = (params.get("billing_mode") or {}).get("type", "flexible")
    flexible = {"proration_discounts": "included"} if mode == "flexible" else None
    return {"type": mode, "flexible": flexible}


def _periods(now: int, params: dict[str, Any], recurring: Object) -> tuple[int, int, int | None]:
    """The anchor, the end of the first period, and the end of the trial if there is one."""
    interval, count = recurring["interval"], recurring["interval_count"]
    trial_end = params.get("trial_end")
    if "trial_period_days" in params:
        trial_end = now + params["trial_period_days"] * 86400
    if isinstance(trial_end, int) and trial_end > now:
        return trial_end, trial_end, trial_end
    if config := params.get("billing_cycle_anchor_config"):
        anchor = cycles.anchor_from_config(now, config)
    else:
        anchor = params.get("billing_cycle_anchor", now)
    if anchor < now:
        raise invalid("billing_cycle_anchor must be a timestamp in the future.", param="billing_cycle_anchor")
    latest = cycles.boundary(now, interval, count, 1)
    if anchor > latest:
        raise invalid(
            "billing_cycle_anchor cannot be later than next natural billing date for the plan",
            param="billing_cycle_anchor",
        )
    return anchor, cycles.next_boundary(anchor, interval, count, now), None


@operation("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(box: "Sandbox", call: generic.Call) -> Object:
    subscription = box.get("subscription", call.id)
    if subscription["status"] in {"canceled", "incomplete_expired"}:
        raise invalid("A canceled subscription can only update its cancellation_details and metadata.", param="id")
    params = dict(call.params)
    generic.check_references(box, "subscription", params)
    customer = box.get("customer", subscription["customer"])
    _check_method(box, params.get("default_payment_method"), customer)
    before = box.retrieve("subscription", subscription["id"])
    behavior = params.get("proration_behavior", "create_prorations")
    subscription_items.change_all(box, subscription, params.pop("items", []), behavior)
    fields = box.overlay("subscription", params, subscription)
    for name in ("billing_cycle_anchor", "trial_end", "cancel_at"):
        fields.pop(name, None)
    box.change(subscription, **fields)
    if "cancel_at" in params:
        chosen = params["cancel_at"] if isinstance(params["cancel_at"], int) else None
        box.change(subscription, cancel_at=chosen)
    _note_cancellation(box, subscription)
    _plan_cancellation(box, subscription)
    if params.get("trial_end") == "now" and subscription["status"] == "trialing":
        _end_trial_now(box, subscription)
    after = box.retrieve("subscription", subscription["id"])
    if previous := {name: value for name, value in before.items() if after.get(name) != value}:
        box.tell(subscription, "updated", previous)
    return subscription


def _note_cancellation(box: "Sandbox", subscription: Object) -> None:
    leaving = subscription["cancel_at_period_end"] or subscription["cancel_at"]
    if leaving and not subscription["canceled_at"]:
        details = subscription["cancellation_details"] | {"reason": "cancellation_requested"}
        box.change(subscription, canceled_at=box.time_of(subscription), cancellation_details=details)
    elif not leaving and subscription["canceled_at"]:
        details = subscription["cancellation_details"] | {"reason": None}
        box.change(subscription, canceled_at=None, cancellation_details=details)


def _plan_cancellation(box: "Sandbox", subscription: Object) -> None:
    box.agenda.drop("subscription.cancel", subscription["id"])
    if subscription["cancel_at_period_end"]:
        box.change(subscription, cancel_at=subscription["_period_end"])
    if subscription["cancel_at"] and subscription["cancel_at"] < subscription["_period_end"]:
        box.schedule("subscription.cancel", subscription, subscription["cancel_at"])


@operation("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(box: "Sandbox", call: generic.Call) -> Object:
    subscription = box.get("subscription", call.id)
    if subscription["status"] == "canceled":
        raise invalid(f"No such subscription: '{call.id}'", param="id", code="resource_missing")
    if details := call.params.get("cancellation_details"):
        merged = subscription["cancellation_details"] | {k: v or None for k, v in details.items()}
        box.change(subscription, cancellation_details=merged)
    if call.params.get("invoice_now"):
        billing.close_period(box, subscription, box.time_of(subscription), final=True)
    end(box, subscription)
    return subscription


def end(box: "Sandbox", subscription: Object) -> None:
    """Cancel now. What was used but not invoiced stays uninvoiced, as at Stripe."""
    now = box.time_of(subscription)
    reason = subscription["cancellation_details"]["reason"] or "cancellation_requested"
    box.change(
        subscription,
        status="canceled",
        canceled_at=subscription["canceled_at"] or now,
        ended_at=now,
        cancellation_details=subscription["cancellation_details"] | {"reason": reason},
    )
    for name in ("subscription.cycle", "subscription.cancel"):
        box.agenda.drop(name, subscription["id"])
    for invoice in invoices.of_subscription(box, subscription):
        if invoice["status"] in {"draft", "open"}:
            invoices.stop_collecting(box, invoice)
    box.tell(subscription, "deleted")


@job("subscription.cancel")
def cancel_when_due(box: "Sandbox", key: str) -> None:
    subscription = box.get("subscription", key)
    billing.close_period(box, subscription, box.time_of(subscription), final=True)
    end(box, subscription)


@job("subscription.cycle")
def cycle(box: "Sandbox", key: str) -> None:
    """Start the next period and invoice: metered items for the one that ended, licensed for the one that starts."""
    subscription = box.get("subscription", key)
    boundary = subscription["_period_end"]
    if subscription["cancel_at"] and subscription["cancel_at"] <= boundary:
        billing.close_period(box, subscription, boundary, final=True)
        end(box, subscription)
        return
    period_end = cycles.next_boundary(
        subscription["billing_cycle_anchor"], subscription["_interval"], subscription["_interval_count"], boundary
    )
    shown = box.retrieve("subscription", key)
    ended = (subscription["_period_start"], boundary)
    box.change(subscription, _period_start=boundary, _period_end=period_end)
    if subscription["status"] == "trialing" and not _end_trial(box, subscription):
        return
    subscription_items.start_period(box, subscription)
    box.schedule("subscription.cycle", subscription, period_end)
    billing.cycle_invoice(box, subscription, ended)
    after = box.retrieve("subscription", key)
    box.tell(subscription, "updated", {k: v for k, v in shown.items() if after[k] != v})


def _end_trial_now(box: "Sandbox", subscription: Object) -> None:
    """The trial's end becomes the anchor of the periods to come."""
    now = box.time_of(subscription)
    box.change(subscription, trial_end=now, billing_cycle_anchor=now, _period_end=now)
    cycle(box, subscription["id"])


def _end_trial(box: "Sandbox", subscription: Object) -> bool:
    """Whether the subscription goes on: without a payment method it may be paused or end, as was agreed."""
    customer = box.get("customer", subscription["customer"])
    method = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    agreed = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    if method or agreed == "create_invoice":
        box.change(subscription, status="active")
        return True
    if agreed == "cancel":
        end(box, subscription)
    else:
        box.change(subscription, status="paused")
        box.tell(subscription, "paused")
    return False


@operation("POST", "/v1/subscriptions/{subscription}/resume")
def resume(box: "Sandbox", call: generic.Call) -> Object:
    subscription = box.get("subscription", call.ids["subscription"])
    if subscription["status"] != "paused":
        raise invalid("You can only resume a paused subscription.", param="id")
    box.change(subscription, tell=True, status="active")
    box.tell(subscription, "resumed")
    return subscription
