"""The gateway: named errors, plain dictionaries, and never a call inside a transaction."""

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
import stripe as sdk
from django.db import transaction
from django.test import override_settings

from billing_portal.billing import gateway
from tests.stripe.conftest import RunningSandbox


@pytest.fixture
def key() -> Iterator[str]:
    return (f"key-{number}" for number in itertools.count())


def test_objects_come_back_as_plain_dictionaries(stripe: RunningSandbox, key: Iterator[str]) -> None:
    made = gateway.create("customers", {"name": "Acme", "metadata": {"a": "b"}}, next(key))
    assert type(made) is dict
    assert type(made["metadata"]) is dict
    assert gateway.retrieve("customers", made["id"]) == made


def test_the_same_key_makes_one_object(stripe: RunningSandbox) -> None:
    first, second = (gateway.create("customers", {"name": "Acme"}, "same") for _ in range(2))
    assert first["id"] == second["id"]
    assert len(list(gateway.list_all("customers"))) == 1


def test_the_same_key_with_other_parameters_is_refused(stripe: RunningSandbox) -> None:
    gateway.create("customers", {"name": "Acme"}, "same")
    with pytest.raises(gateway.Refused) as refusal:
        gateway.create("customers", {"name": "Other"}, "same")
    assert refusal.value.kind == "idempotency_error"


def test_lists_go_through_every_page(
    stripe: RunningSandbox, key: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "PAGE_SIZE", 2)
    made = [gateway.create("customers", {"name": str(number)}, next(key))["id"] for number in range(5)]
    assert [customer["id"] for customer in gateway.list_all("customers")] == made[::-1]


def test_what_does_not_exist_is_not_found(stripe: RunningSandbox) -> None:
    with pytest.raises(gateway.NotFound):
        gateway.retrieve("customers", "cus_missing")


def test_a_decline_carries_its_code(stripe: RunningSandbox, key: Iterator[str]) -> None:
    customer = gateway.create("customers", {}, next(key))
    params = {"customer": customer["id"], "payment_method": "pm_card_chargeDeclinedInsufficientFunds", "confirm": True}
    with pytest.raises(gateway.Refused) as refusal:
        gateway.create("setup_intents", params | {"payment_method_types": ["card"]}, next(key))
    assert (refusal.value.kind, refusal.value.code) == ("card_error", "card_declined")
    assert refusal.value.decline_code == "insufficient_funds"
    assert "insufficient funds" in refusal.value.message


def test_a_wrong_parameter_is_named(stripe: RunningSandbox, key: Iterator[str]) -> None:
    with pytest.raises(gateway.Refused) as refusal:
        gateway.create("customers", {"nmae": "Acme"}, next(key))
    assert refusal.value.param == "nmae"
    assert refusal.value.as_json()["param"] == "nmae"


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_is_unavailable(stripe: RunningSandbox, key: Iterator[str], status: int) -> None:
    stripe.faults(fail_next={"count": 1, "status": status})
    with pytest.raises(gateway.Unavailable) as error:
        gateway.create("customers", {}, next(key))
    assert not error.value.is_replayed


@pytest.mark.parametrize("status", [409, 429])
def test_f18_too_many_requests_are_rate_limited(stripe: RunningSandbox, key: Iterator[str], status: int) -> None:
    stripe.faults(fail_next={"count": 1, "status": status})
    with pytest.raises(gateway.RateLimited):
        gateway.create("customers", {}, next(key))


def test_f17_a_timeout_is_unavailable(stripe: RunningSandbox, key: Iterator[str]) -> None:
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 3, "method": "POST"})
    with override_settings(STRIPE_TIMEOUT_SECONDS=0.3), pytest.raises(gateway.Unavailable):
        gateway.create("customers", {}, next(key))


@pytest.mark.django_db(transaction=True)
def test_nobody_there_is_unavailable(key: Iterator[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with override_settings(STRIPE_API_BASE=f"http://127.0.0.1:{port}"), pytest.raises(gateway.Unavailable):
        gateway.retrieve("customers", "cus_1")


@pytest.mark.django_db(transaction=True)
def test_a_connection_cut_off_is_unavailable(key: Iterator[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept_and_close() -> None:
            server.accept()[0].close()

        closer = threading.Thread(target=accept_and_close)
        closer.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with override_settings(STRIPE_API_BASE=url), pytest.raises(gateway.Unavailable):
            gateway.create("customers", {}, next(key))
        closer.join()


def test_no_call_is_made_inside_a_transaction(stripe: RunningSandbox, key: Iterator[str]) -> None:
    with transaction.atomic(), pytest.raises(gateway.InsideTransaction):
        gateway.create("customers", {}, next(key))
    with transaction.atomic(), pytest.raises(gateway.InsideTransaction):
        list(gateway.list_all("customers"))
    assert list(gateway.list_all("customers")) == []


def test_the_sdk_is_closed_to_everyone_else() -> None:
    gateway.refuse_other_callers()
    with pytest.raises(gateway.PastTheGateway):
        sdk.Customer.retrieve("cus_1", api_key="sk_test_any")
