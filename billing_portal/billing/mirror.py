"""The mirror: Stripe's objects in dj-stripe's tables, for reading.

dj-stripe's own sync fetches whatever an object refers to, inside a transaction, and keeps the secret key in its tables.
So it works offline here: we fetch first, through the gateway, and hand it what it would have asked for. References to
kinds that we do not mirror stay empty; `stripe_data` is always the whole object, as Stripe sent it.
"""

from typing import Any, TypeAlias, cast

import djstripe.models as djstripe
from django.db import models
from djstripe.models.base import StripeModel

from billing_portal.billing import gateway
from billing_portal.billing.gateway import Kind, Object

Reference: TypeAlias = "models.ForeignKey[Any, Any]"
# Stripe's `object` → the gateway's kind and dj-stripe's model.
MIRRORED: dict[str, tuple[Kind, type[StripeModel]]] = {
    "charge": ("charges", djstripe.Charge),
    "customer": ("customers", djstripe.Customer),
    "dispute": ("disputes", djstripe.Dispute),
    "invoice": ("invoices", djstripe.Invoice),
    "invoiceitem": ("invoice_items", djstripe.InvoiceItem),
    "payment_intent": ("payment_intents", djstripe.PaymentIntent),
    "payment_method": ("payment_methods", djstripe.PaymentMethod),
    "price": ("prices", djstripe.Price),
    "product": ("products", djstripe.Product),
    "refund": ("refunds", djstripe.Refund),
    "setup_intent": ("setup_intents", djstripe.SetupIntent),
    "subscription": ("subscriptions", djstripe.Subscription),
    "subscription_item": ("subscription_items", djstripe.SubscriptionItem),
}
_OBJECTS = {model: name for name, (_, model) in MIRRORED.items()}
# Nested lists that dj-stripe would page through, or chokes on when they are null: our own tables hold what we need.
_LEFT_OUT = {"charge": ["refunds"], "customer": ["sources", "discount"], "invoice": ["lines"]}
_EMPTIED = {
    "invoice": ["discounts", "default_tax_rates"],
    "invoiceitem": ["discounts", "tax_rates"],
    "subscription": ["default_tax_rates"],
    "subscription_item": ["tax_rates"],
}


def keep_dj_stripe_offline() -> None:
    """Take from dj-stripe the two calls that no data can spare it; the gateway refuses any other.

    Finding the account behind a key copies the key into `djstripe_apikey`; a product's features are fetched on every
    sync, and an error there only logged.
    """
    djstripe.Account.get_or_retrieve_for_api_key = classmethod(lambda cls, api_key: None)
    djstripe.Product._sync_product_features = lambda self, api_key=None: None
    gateway.refuse_other_callers()


keep_dj_stripe_offline()


def is_mirrored(name: str) -> bool:
    """Say whether objects of this name are copied."""
    return name in MIRRORED


def copy(data: Object) -> None:
    """Copy one object, and first whatever it refers to that is not here yet. Raises what the gateway raises.

    An object that was deleted keeps its last content, marked as deleted.
    """
    _, model = MIRRORED[data["object"]]
    if data.get("deleted"):
        _mark_deleted(model, data["id"])
        return
    references = _references(model, data)
    missing = [(field, reference) for field, reference in references.items() if not _is_here(field, reference)]
    for field, reference in missing:
        if not field.null:
            _fetch(field, reference)
    if data["object"] == "subscription":
        for item in data["items"]["data"]:
            _copy_if_new(item["price"])
    optional = [(field, reference) for field, reference in missing if field.null]
    if optional and not model.objects.filter(id=data["id"]).exists():
        # It has to be here first: what it refers to may refer back to it.
        _sync(model, data, without=[field.name for field, _ in optional])
    gone = [field.name for field, reference in optional if not _fetch(field, reference)]
    _sync(model, data, without=gone)


def _references(model: type[StripeModel], data: Object) -> dict[Reference, str]:
    """Return the ids that the object refers to, by the model's foreign keys to mirrored kinds."""
    found = {}
    for field in model._meta.concrete_fields:
        if isinstance(field, models.ForeignKey) and field.related_model in _OBJECTS:
            reference = _id_of(_value(field.name, data))
            if reference:
                found[field] = reference
    return found


def _value(name: str, data: Object) -> Any:
    if data["object"] == "customer" and name == "default_payment_method":
        return (data.get("invoice_settings") or {}).get(name)
    return data.get(name)


def _id_of(value: Any) -> str:
    """Return the id behind a reference, expanded or not; empty if there is none."""
    return str(value["id"] if isinstance(value, dict) else value or "")


def _is_here(field: Reference, stripe_id: str) -> bool:
    return bool(_model_of(field).objects.filter(id=stripe_id).exists())


def _model_of(field: Reference) -> type[StripeModel]:
    return cast(type[StripeModel], field.related_model)


def _fetch(field: Reference, stripe_id: str) -> bool:
    """Copy what a reference names; False if Stripe does not have it any more."""
    kind, _ = MIRRORED[_OBJECTS[_model_of(field)]]
    try:
        data = gateway.retrieve(kind, stripe_id)
    except gateway.NotFound:
        return False
    if data.get("deleted"):
        return _is_here(field, stripe_id)
    copy(data)
    return True


def _copy_if_new(data: Object) -> None:
    _, model = MIRRORED[data["object"]]
    if not model.objects.filter(id=data["id"]).exists():
        copy(data)


def _sync(model: type[StripeModel], data: Object, *, without: list[str]) -> None:
    """Let dj-stripe write its row, offline; then put the whole object beside its columns."""
    model.sync_from_stripe_data(gateway.sdk_object(_offline(model, data, without)))
    model.objects.filter(id=data["id"]).update(stripe_data=data)


def _offline(model: type[StripeModel], data: Object, without: list[str]) -> Object:
    """Return the object such that dj-stripe has nothing to fetch for it."""
    trimmed = {key: value for key, value in data.items() if key not in _LEFT_OUT.get(data["object"], [])}
    trimmed |= {key: [] for key in _EMPTIED.get(data["object"], []) if key in data}
    for field in model._meta.get_fields():
        if not (field.many_to_one or field.one_to_one) or field.name not in trimmed:
            continue
        trimmed[field.name] = _id_of(trimmed[field.name]) or None if field.related_model in _OBJECTS else None
    trimmed |= dict.fromkeys((name for name in without if name in trimmed), None)
    if data["object"] == "customer" and "default_payment_method" in without:
        trimmed["invoice_settings"] = {**data["invoice_settings"], "default_payment_method": None}
    if data["object"] == "subscription":
        items = [{**item, "tax_rates": []} for item in data["items"]["data"]]
        trimmed["items"] = {**data["items"], "data": items, "has_more": False}
    return trimmed


def _mark_deleted(model: type[StripeModel], stripe_id: str) -> None:
    row = model.objects.filter(id=stripe_id).first()
    if row is not None:
        model.objects.filter(id=stripe_id).update(stripe_data={**row.stripe_data, "deleted": True})
