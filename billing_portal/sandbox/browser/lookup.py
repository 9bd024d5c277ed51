"""Find the sandbox's objects the way browsers name them: by client secret, by hosted address."""

import secrets
from typing import Any

from billing_portal.sandbox.engine import Sandbox
from billing_portal.sandbox.errors import StripeError
from billing_portal.sandbox.store import Object

INTENTS = {"seti": "setup_intent", "pi": "payment_intent"}


def find(sandbox: Sandbox, kind: str, identifier: str) -> Object | None:
    """Return an object as the API shows it, or None."""
    try:
        return sandbox.retrieve(kind, identifier)
    except StripeError:
        return None


def intent(sandbox: Sandbox, client_secret: str) -> Object | None:
    """Return the intent that this client secret opens, or None; the whole secret has to match."""
    identifier = client_secret.partition("_secret_")[0]
    found = intent_by_id(sandbox, identifier)
    opens = found and secrets.compare_digest(found.get("client_secret") or "", client_secret)
    return found if opens else None


def intent_by_id(sandbox: Sandbox, identifier: str) -> Object | None:
    kind = INTENTS.get(identifier.partition("_")[0])
    return find(sandbox, kind, identifier) if kind else None


def customer_session(sandbox: Sandbox, client_secret: str) -> Object | None:
    """Return the customer session that this secret opens, unless it has expired."""
    found = find(sandbox, "customer_session", client_secret)
    return found if found and found["expires_at"] > sandbox.now() else None


def identifier_of(reference: Any) -> str | None:
    """Return the id of a field that is an id, an expanded object or null."""
    identifier: str | None = reference["id"] if isinstance(reference, dict) else reference
    return identifier


def payment_methods(sandbox: Sandbox, customer: str | None) -> list[Object]:
    """Return a customer's saved payment methods: the default one, then the newest first."""
    if not customer:
        return []
    default = default_method(find(sandbox, "customer", customer) or {})
    found = sandbox.store.where("payment_method", customer=customer)
    newest_first = [sandbox.retrieve("payment_method", each["id"]) for each in reversed(found)]
    return sorted(newest_first, key=lambda each: each["id"] != default)


def default_method(customer: Object) -> str | None:
    return identifier_of((customer.get("invoice_settings") or {}).get("default_payment_method"))


def merchant(sandbox: Sandbox) -> str:
    """Return the name of the business whose sandbox this is."""
    account = next(iter(sandbox.objects("account")), {})
    profile = account.get("business_profile") or {}
    return profile.get("name") or "Sandbox business"
