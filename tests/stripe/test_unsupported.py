"""Every parameter is acted on, shown, or refused: none succeeds in silence."""

import functools
import inspect
import re
import sys

import pytest
import stripe

from billing_portal.sandbox import generic, registry, resources, specification, unsupported
from billing_portal.sandbox.resources import checkout

SHOWN_BY = {
    "default_price_data": "price",
    "payment_intent_data": "payment_intent",
    "payment_method_data": "payment_method",
    "price_data": "price",
    "product_data": "product",
    "setup_intent_data": "setup_intent",
    "subscription_data": "subscription",
}
"""Parameters that make an object beside the one that is answered, and which shows them."""


@functools.cache
def described():
    return specification.load()


def sources(handler, depth: int = 4) -> str:
    """The text of an operation's behaviour, and of what it calls within the resources."""
    module, text = sys.modules[handler.__module__], inspect.getsource(handler)
    for holder, name in re.findall(r"\b(?:(\w+)\.)?(\w+)\(", text) if depth else ():
        called = getattr(getattr(module, holder, None) if holder else module, name, None)
        if inspect.isfunction(called) and called.__module__.startswith(resources.__name__):
            text += sources(called, depth - 1)
    return text


@functools.cache
def other_methods() -> set[str]:
    """Payment methods that the sandbox has not: naming one as a method's type is refused."""
    return {*described().schemas["payment_method"]["properties"]["type"]["enum"], "payto"} - {"card", "link"}


def hashes(schema):
    """The hashes a value of this schema may be, or that its entries may be."""
    while "$ref" in schema:
        schema = described().schemas[schema["$ref"].rpartition("/")[2]]
    for branch in schema.get("anyOf", [schema]):
        if branch is not schema:
            yield from hashes(branch)
        elif branch.get("type") == "array":
            yield from hashes(branch["items"])
        elif branch.get("type") == "object":
            yield branch


def named(operation) -> set[str]:
    """Parameters of which something is said, by their paths."""
    return unsupported.REFUSED.get(operation.path, set()) | unsupported.WITHOUT_EFFECT.get(operation.path, set())


def silent(operation):
    """Paths of parameters that no behaviour names, no object shows, and nothing refuses."""
    handler = registry.OPERATIONS.get((operation.method, operation.path))
    (kind, *_) = re.findall(r"schemas/([\w.]+)", str(operation.answer)) or ["error"]
    shown = [described().schemas[kind]]
    text = sources(handler) if handler else ""
    if handler is checkout.create:
        text += sources(checkout.complete)  # what is kept until the customer has paid
    yield from _silent(operation.request_schema, shown, "", named(operation), text)


def _silent(asked, shown, prefix, said, text):
    for branch in hashes(asked):
        for name, schema in branch.get("properties", {}).items():
            path = prefix + name
            if name in {"expand", *unsupported.EVERYWHERE, *other_methods()} or path in said:
                continue
            answers = [each["properties"][name] for each in shown if name in each.get("properties", {})]
            if name in SHOWN_BY:
                answers.append(described().schemas[SHOWN_BY[name]])
            if not answers and f'"{name}"' not in text:
                yield path
            else:
                inner = [each for answer in answers for each in hashes(answer)]
                yield from _silent(schema, inner, f"{path}.", said, text)


def implemented():
    """Every operation that changes something."""
    for method, path in registry.OPERATIONS:
        described().allow(method, path)
    return [each for each in described().operations.values() if each.method != "GET" and generic.handler_for(each)]


def test_no_operation_takes_a_parameter_and_forgets_it():
    found = {f"{each.method} {each.path}": names for each in implemented() if (names := list(silent(each)))}
    assert found == {}


def test_what_is_refused_exists():
    operations: dict[str, list] = {}
    for each in implemented():
        operations.setdefault(each.path, []).append(each.request_schema)
    for path in {*unsupported.REFUSED, *unsupported.WITHOUT_EFFECT}:
        names = unsupported.REFUSED.get(path, set()) | unsupported.WITHOUT_EFFECT.get(path, set())
        for name in names:
            found = operations[path]
            for part in name.split("."):
                inner = [branch.get("properties", {}) for schema in found for branch in hashes(schema)]
                found = [properties[part] for properties in inner if part in properties]
            assert found, (path, name)


@pytest.mark.parametrize("fields", [{"transfer_data": {"destination": "acct_1"}}, {"confirmation_token": "ctoken_1"}])
def test_a_refusal_says_what_is_missing_and_changes_nothing(stripe_sandbox, client, fields):
    with pytest.raises(stripe.APIError) as refused:
        client.v1.payment_intents.create({"amount": 500, "currency": "usd", **fields})
    assert (refused.value.http_status, refused.value.error.param) == (501, next(iter(fields)))
    assert stripe_sandbox.dump()["objects"].get("payment_intent") is None


def test_a_parameter_that_asks_for_nothing_may_stay(client):
    items = [{"price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"name": "x"}}, "quantity": 1}]
    off = {"allow_promotion_codes": False, "phone_number_collection": {"enabled": False}}
    session = client.v1.checkout.sessions.create(
        {"mode": "payment", "line_items": items, "success_url": "https://portal.example/", **off}
    )
    assert session.status == "open"


def test_a_value_can_be_what_is_missing(client, metered):
    with pytest.raises(stripe.APIError) as refused:
        client.v1.subscriptions.update(metered.subscription.id, {"proration_behavior": "always_invoice"})
    assert (refused.value.http_status, refused.value.error.param) == (501, "proration_behavior")


def test_what_is_missing_is_found_at_any_depth(client, metered):
    items = [{"price": metered.price.id, "discounts": [{"coupon": "TEN"}]}]
    with pytest.raises(stripe.APIError) as refused:
        client.v1.subscriptions.create({"customer": metered.customer.id, "items": items})
    assert (refused.value.http_status, refused.value.error.param) == (501, "items.discounts")
