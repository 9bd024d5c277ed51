"""Stripe's meters: one for each component, in whole micros, priced at one micro of the currency a unit.

So no price of ours ever needs a new price at Stripe. Values have up to 15 digits, prices up to 12 decimals.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from billing_portal.billing import gateway, intents, minor_units
from billing_portal.billing.models import Meter, MeterPrice
from usage.models import Billable


def ensure(currency: str, *, now: datetime) -> list[MeterPrice]:
    """Return the metered price of every component in `currency`, making at Stripe what is not there yet.

    Doing it again, or twice at once, makes nothing twice. Raises what the gateway raises.
    """
    return [_ensure_price(_ensure_meter(Billable(value), now=now), currency, now=now) for value in Billable.values]


def event_name_of(component: str) -> str:
    """Return the name under which a component's usage is reported."""
    return f"usage_{component}_micros"


def _ensure_meter(component: Billable, *, now: datetime) -> Meter:
    known = Meter.objects.filter(component=component).first()
    if known is not None:
        return known
    event_name = event_name_of(component)
    product_id = _create(
        "products",
        f"product:{component}",
        {"name": component.label, "metadata": {"component": str(component)}},
        look_up=lambda: _find("products", component=component),
        now=now,
    )
    meter, _ = Meter.objects.get_or_create(
        component=component,
        defaults={
            "event_name": event_name,
            "stripe_meter_id": _ensure_stripe_meter(component, event_name, now=now),
            "stripe_product_id": product_id,
        },
    )
    return meter


def _ensure_stripe_meter(component: Billable, event_name: str, *, now: datetime) -> str:
    """Make the meter, or find the active one that already has the event name: Stripe allows one."""
    params = {
        "display_name": f"{component.label}, micros",
        "event_name": event_name,
        "default_aggregation": {"formula": "sum"},
        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
        "value_settings": {"event_payload_key": "value"},
    }
    try:
        return _create("billing.meters", f"meter:{component}", params, look_up=lambda: _find_meter(event_name), now=now)
    except gateway.Refused:
        found = _find_meter(event_name)
        if found is None:
            raise
        return str(found["id"])


def _ensure_price(meter: Meter, currency: str, *, now: datetime) -> MeterPrice:
    known = MeterPrice.objects.filter(meter=meter, currency=currency).first()
    if known is not None:
        return known
    params = {
        "product": meter.stripe_product_id,
        "currency": currency.lower(),
        "unit_amount_decimal": f"{minor_units.unit_price(currency):f}",
        "billing_scheme": "per_unit",
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.stripe_meter_id},
        "nickname": f"{meter.event_name} {currency}",
    }
    price_id = _create(
        "prices",
        f"price:{meter.stripe_meter_id}:{currency}",
        params,
        look_up=lambda: _find_price(meter, currency),
        now=now,
    )
    price, _ = MeterPrice.objects.get_or_create(meter=meter, currency=currency, defaults={"stripe_price_id": price_id})
    return price


def _create(
    kind: gateway.Kind, reference: str, params: Mapping[str, Any], *, look_up: intents.LookUp, now: datetime
) -> str:
    return intents.perform(
        organization=None,
        verb=f"create {kind}",
        reference=reference,
        params=params,
        call=partial(gateway.create, kind),
        look_up=look_up,
        again=True,
        now=now,
    )


def _find(kind: gateway.Kind, *, component: Billable) -> gateway.Object | None:
    made = gateway.list_all(kind, {"active": True})
    return next((found for found in made if (found.get("metadata") or {}).get("component") == component), None)


def _find_meter(event_name: str) -> gateway.Object | None:
    active = gateway.list_all("billing.meters", {"status": "active"})
    return next((meter for meter in active if meter["event_name"] == event_name), None)


def _find_price(meter: Meter, currency: str) -> gateway.Object | None:
    prices = gateway.list_all(
        "prices", {"product": meter.stripe_product_id, "currency": currency.lower(), "active": True}
    )
    return next((price for price in prices if (price["recurring"] or {}).get("meter") == meter.stripe_meter_id), None)
