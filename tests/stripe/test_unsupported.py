"""Every parameter is acted on, shown, or refused: none succeeds in silence."""

import functools
import inspect
import re
import sys

import pytest
import stripe

from billing_portal.sandbox import generic, registry, resources, specification, unsupported


@functools.cache
def described():
    return specification.load()


def sources(handler) -> str:
    """The text of the module an operation's behaviour is in, and of those it calls."""
    module = sys.modules[handler.__module__]
    beside = [value for value in vars(module).values() if inspect.ismodule(value)]
    near = [each for each in (module, *beside) if each.__name__.startswith(resources.__name__)]
    return "\n".join(inspect.getsource(each) for each in near)


def silent(operation) -> set[str]:
    """Parameters that no behaviour names, no object shows, and nothing refuses."""
    handler = registry.OPERATIONS.get((operation.method, operation.path))
    text = sources(handler) if handler else ""
    (kind, *_) = re.findall(r"schemas/([\w.]+)", str(operation.answer)) or [None]
    shown = described().schemas.get(kind, {}).get("properties", {})
    known = {"expand", *shown, *unsupported.EVERYWHERE}
    known |= unsupported.REFUSED.get(operation.path, set()) | unsupported.WITHOUT_EFFECT.get(operation.path, set())
    given = operation.request_schema.get("properties", {})
    return {name for name in given if name not in known and f'"{name}"' not in text}


def implemented():
    """Every operation that changes something."""
    for method, path in registry.OPERATIONS:
        described().allow(method, path)
    return [each for each in described().operations.values() if each.method == "POST" and generic.handler_for(each)]


def test_no_operation_takes_a_parameter_and_forgets_it():
    assert {each.path: names for each in implemented() if (names := silent(each))} == {}


def test_what_is_refused_exists():
    operations = {each.path: each.request_schema.get("properties", {}) for each in implemented()}
    for table in (unsupported.REFUSED, unsupported.WITHOUT_EFFECT):
        for path, names in table.items():
            assert names <= set(operations[path]), path


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
