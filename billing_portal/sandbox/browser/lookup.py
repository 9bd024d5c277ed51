"""Find the sandbox's objects the way browsers name them: by client secret, by hosted address."""

import secrets

INTENTS = {"seti": "setup_intent", "pi": "payment_intent"}


def find(sandbox, kind: str, identifier: str) -> dict | None:
    return next((each for each in sandbox.objects(kind) if each["id"] == identifier), None)


def intent(sandbox, client_secret: str) -> dict | None:
    """Return the intent that this client secret opens, or None; the whole secret has to match."""
    identifier = client_secret.partition("_secret_")[0]
    found = intent_by_id(sandbox, identifier)
    opens = found and secrets.compare_digest(found.get("client_secret") or "", client_secret)
    return found if opens else None


def intent_by_id(sandbox, identifier: str) -> dict | None:
    kind = INTENTS.get(identifier.partition("_")[0])
    return find(sandbox, kind, identifier) if kind else None


def customer_session(sandbox, client_secret: str) -> dict | None:
    sessions = sandbox.objects("customer_session")
    return next((each for each in sessions if each["client_secret"] == client_secret), None)


def identifier_of(reference: object) -> str | None:
    """Return the id of a field that is an id, an expanded object or null."""
    return reference["id"] if isinstance(reference, dict) else reference


def payment_methods(sandbox, customer: str | None) -> list[dict]:
    """Return a customer's saved payment methods: the default one, then the newest first."""
    if not customer:
        return []
    owner = find(sandbox, "customer", customer) or {}
    default = default_method(owner)
    newest_first = sandbox.objects("payment_method")[::-1]
    methods = [each for each in newest_first if identifier_of(each.get("customer")) == customer]
    return sorted(methods, key=lambda each: each["id"] != default)


def default_method(customer: dict) -> str | None:
    return identifier_of((customer.get("invoice_settings") or {}).get("default_payment_method"))


def merchant(sandbox) -> str:
    """Return the name of the business whose sandbox this is."""
    account = next(iter(sandbox.objects("account")), {})
    profile = account.get("business_profile") or {}
    return profile.get("name") or "Sandbox business"
