"""Stripe's own verbs over HTTP: the only importer of `stripe`.

Objects come back as plain dictionaries, as Stripe's JSON has them. Every write takes the idempotency key of its intent.
No verb runs inside a transaction: a slow Stripe must never hold a lock of ours. Stripe is given 10 seconds, and
nothing is retried here: who calls knows the key to repeat.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, NoReturn

import stripe
from django.conf import settings
from django.db import connection

# As StripeClient's services are called under `v1`.
Kind = Literal[
    "billing.meters",
    "billing_portal.sessions",
    "charges",
    "checkout.sessions",
    "credit_notes",
    "customer_sessions",
    "customers",
    "disputes",
    "events",
    "invoice_items",
    "invoice_payments",
    "invoices",
    "payment_intents",
    "payment_methods",
    "prices",
    "products",
    "radar.early_fraud_warnings",
    "refunds",
    "setup_intents",
    "subscription_items",
    "subscriptions",
    "tax_ids",
    "tax_rates",
]
Action = Literal[
    "attach",
    "cancel",
    "close",
    "deactivate",
    "delete",
    "detach",
    "expire",
    "finalize_invoice",
    "mark_uncollectible",
    "pay",
    "void_credit_note",
    "void_invoice",
]
Object = dict[str, Any]
PAGE_SIZE = 100


class Failed(Exception):
    """What every error of the gateway is."""


class InsideTransaction(Failed):
    """A network call was about to hold a transaction open: a mistake in the program."""


class PastTheGateway(Failed):
    """The SDK was called by someone else than this module: a mistake in the program."""


class Unavailable(Failed):
    """Stripe timed out, broke off or answered 5xx: whether it acted is unknown. Repeat with the same key.

    `is_replayed` says that Stripe repeated a stored 5xx for a key it knows: repeating is useless, look it up (F19).
    """

    def __init__(self, message: str, *, is_replayed: bool = False) -> None:
        super().__init__(message)
        self.is_replayed = is_replayed


class RateLimited(Failed):
    """Too many requests, or another one holds the object or the key. Repeat a little later with the same key."""


class Refused(Failed):
    """Stripe understood and said no. `kind` is Stripe's `type`; `code` and `decline_code` say why."""

    def __init__(
        self, message: str, *, kind: str = "", code: str = "", decline_code: str = "", param: str = "", status: int = 0
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.code = code
        self.decline_code = decline_code
        self.param = param
        self.status = status

    def as_json(self) -> dict[str, str | int]:
        """Return what an Intent keeps of the refusal."""
        return dict(vars(self))


class NotFound(Refused):
    """The object does not exist at Stripe, or not for this key."""


def refuse_inside_transaction() -> None:
    """Raise InsideTransaction where one is open: it would be held for as long as Stripe takes to answer."""
    if connection.in_atomic_block:
        raise InsideTransaction("Stripe must not be called inside a transaction.")


# ── Verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def create(kind: Kind, params: Mapping[str, Any], idempotency_key: str) -> Object:
    """Create an object."""
    return _call(kind, "create", params=params, options={"idempotency_key": idempotency_key})


def update(kind: Kind, stripe_id: str, params: Mapping[str, Any], idempotency_key: str) -> Object:
    """Change an object; what `params` does not name stays as it is."""
    return _call(kind, "update", stripe_id, params=params, options={"idempotency_key": idempotency_key})


def act(kind: Kind, action: Action, stripe_id: str, params: Mapping[str, Any], idempotency_key: str) -> Object:
    """Do what is neither creation nor change: finalize or pay an invoice, detach a card."""
    return _call(kind, action, stripe_id, params=params, options={"idempotency_key": idempotency_key})


def retrieve(kind: Kind, stripe_id: str, *, expand: Iterable[str] = ()) -> Object:
    """Return an object as it is now. Raises NotFound; a deleted customer comes back with `deleted`."""
    return _call(kind, "retrieve", stripe_id, params={"expand": list(expand)} if expand else {})


def list_all(kind: Kind, params: Mapping[str, Any] | None = None) -> Iterator[Object]:
    """Yield every object that matches, page by page, newest first."""
    return _pages(kind, params=params)


def list_invoice_lines(stripe_invoice_id: str) -> Iterator[Object]:
    """Yield all lines of an invoice: the invoice itself carries only the first of them."""
    return _pages("invoices.line_items", stripe_invoice_id)


def update_invoice_line(
    stripe_invoice_id: str, stripe_line_id: str, params: Mapping[str, Any], idempotency_key: str
) -> Object:
    """Change a line of a draft."""
    options = {"idempotency_key": idempotency_key}
    return _call("invoices.line_items", "update", stripe_invoice_id, stripe_line_id, params=params, options=options)


def preview_invoice(params: Mapping[str, Any]) -> Object:
    """Return the invoice that would come of this, with its tax; nothing is made."""
    return _call("invoices", "create_preview", params=params)


def create_tax_id(stripe_customer_id: str, params: Mapping[str, Any], idempotency_key: str) -> Object:
    """Give a customer a tax id. Raises Refused with the code `tax_id_invalid`."""
    options = {"idempotency_key": idempotency_key}
    return _call("customers.tax_ids", "create", stripe_customer_id, params=params, options=options)


def delete_tax_id(
    stripe_customer_id: str, stripe_tax_id: str, params: Mapping[str, Any], idempotency_key: str
) -> Object:
    """Take a tax id from a customer. Raises NotFound where it is gone."""
    options = {"idempotency_key": idempotency_key}
    return _call("customers.tax_ids", "delete", stripe_customer_id, stripe_tax_id, params=params, options=options)


def list_tax_ids(stripe_customer_id: str) -> Iterator[Object]:
    """Yield all tax ids of a customer."""
    return _pages("customers.tax_ids", stripe_customer_id)


def list_meter_event_summaries(
    stripe_meter_id: str, *, customer: str, start_time: int, end_time: int
) -> Iterator[Object]:
    """Yield what a meter has summed up for a customer; times are Unix seconds on whole minutes, half-open."""
    params = {"customer": customer, "start_time": start_time, "end_time": end_time}
    return _pages("billing.meters.event_summaries", stripe_meter_id, params=params)


def create_meter_event(*, event_name: str, customer: str, value: int, identifier: str, timestamp: int) -> Object:
    """Report `value` units at `timestamp` (Unix seconds). The identifier is what makes it safe to repeat.

    It carries no idempotency key of its own: Stripe would then repeat a stored 5xx for a day instead of counting.
    """
    params = {
        "event_name": event_name,
        "payload": {"stripe_customer_id": customer, "value": str(value)},
        "identifier": identifier,
        "timestamp": timestamp,
    }
    return _call("billing.meter_events", "create", params=params)


def sdk_object(data: Object) -> stripe.StripeObject:
    """Return an object of the SDK with this content, for dj-stripe, which takes no dictionaries."""
    built: stripe.StripeObject = stripe.convert_to_stripe_object(
        data, api_key=settings.STRIPE_SECRET_KEY, stripe_version=settings.STRIPE_API_VERSION
    )
    return built


# ── The way there ─────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=4)
def _client(secret_key: str, api_base: str, api_version: str, timeout_seconds: float) -> stripe.StripeClient:
    return stripe.StripeClient(
        secret_key,
        base_addresses={"api": api_base},
        stripe_version=api_version,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=timeout_seconds),
    )


class _NoClient(stripe.HTTPClient):
    """What the SDK finds when somebody calls it past the gateway."""

    name = "none"

    def request(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise PastTheGateway(f"Only the gateway calls Stripe: {args}")


def refuse_other_callers() -> None:
    """Close Stripe's SDK to everyone but this module: dj-stripe would call it inside transactions."""
    stripe.default_http_client = _NoClient()


def _service(path: str) -> Any:
    client = _client(
        settings.STRIPE_SECRET_KEY,
        settings.STRIPE_API_BASE,
        settings.STRIPE_API_VERSION,
        settings.STRIPE_TIMEOUT_SECONDS,
    )
    return attrgetter(path)(client.v1)


def _call(path: str, verb: str, *ids: str, **arguments: Any) -> Object:
    with _translated_errors():
        answer = getattr(_service(path), verb)(*ids, **arguments)
        return _as_json(answer)


def _pages(path: str, *ids: str, params: Mapping[str, Any] | None = None) -> Iterator[Object]:
    with _translated_errors():
        page = _service(path).list(*ids, params={"limit": PAGE_SIZE, **(params or {})})
    while True:
        yield from map(_as_json, page.data)
        if not page.has_more:
            return
        with _translated_errors():
            page = page.next_page()


def _as_json(answer: stripe.StripeObject) -> Object:
    return answer.to_dict(for_json=True)


@contextmanager
def _translated_errors() -> Iterator[None]:
    refuse_inside_transaction()
    try:
        yield
    except stripe.StripeError as error:
        raise _translate(error) from error


def _translate(error: stripe.StripeError) -> Failed:
    """Return our error for the SDK's. What cannot be told from a lost answer is Unavailable."""
    details = error.error
    status = error.http_status or 0
    if isinstance(error, stripe.RateLimitError) or status == 409:
        return RateLimited(str(error))
    if details is None or not 400 <= status < 500:
        is_replayed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("idempotent-replayed")
        return Unavailable(str(error), is_replayed=is_replayed == "true")
    fields = details.to_dict()
    name = NotFound if status == 404 or fields.get("code") == "resource_missing" else Refused
    return name(
        fields.get("message") or str(error),
        kind=fields.get("type") or "",
        code=fields.get("code") or "",
        decline_code=fields.get("decline_code") or "",
        param=fields.get("param") or "",
        status=status,
    )
