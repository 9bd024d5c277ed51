"""What every request has in common: typing, errors, lists, expansion, idempotency, faults."""

import time

import httpx
import pytest
import stripe


def test_an_unknown_parameter_is_refused_at_any_depth(stripe_sandbox, client):
    cases = [{"nonsense": 1}, {"address": {"planet": "earth"}}, {"invoice_settings": {"custom_fields": [{"nom": "x"}]}}]
    for params in cases:
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.customers.create(params)
        assert refused.value.code == "parameter_unknown"
    assert stripe_sandbox.dump()["objects"].get("customer") is None
    assert refused.value.param == "invoice_settings[custom_fields][0][nom]"


def test_a_missing_parameter_is_named(client):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.prices.create({"product": "prod_x"})
    assert (refused.value.code, refused.value.param) == ("parameter_missing", "currency")


def test_values_are_typed(client):
    customer = client.v1.customers.create({"balance": "12", "metadata": {"n": "1"}})
    assert (customer.balance, customer.metadata["n"]) == (12, "1")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.create({"balance": "twelve"})
    assert refused.value.code == "parameter_invalid_integer"


def test_metadata_is_merged_and_an_empty_value_removes_its_key(client):
    customer = client.v1.customers.create({"metadata": {"a": "1", "b": "2"}, "phone": "123"})
    changed = client.v1.customers.update(customer.id, {"metadata": {"b": "", "c": "3"}, "phone": ""})
    assert (changed.metadata.to_dict(), changed.phone) == ({"a": "1", "c": "3"}, None)


def test_a_missing_object_is_a_404_in_the_path_and_a_400_in_a_parameter(client):
    with pytest.raises(stripe.InvalidRequestError) as in_path:
        client.v1.customers.retrieve("cus_none")
    with pytest.raises(stripe.InvalidRequestError) as in_parameter:
        client.v1.setup_intents.create({"customer": "cus_none"})
    assert (in_path.value.http_status, in_path.value.code) == (404, "resource_missing")
    assert (in_parameter.value.http_status, in_parameter.value.param) == (400, "customer")


def test_lists_page_in_both_directions_newest_first(client):
    made = [client.v1.customers.create({"name": str(number)}).id for number in range(7)][::-1]
    first = client.v1.customers.list({"limit": 3})
    assert ([c.id for c in first.data], first.has_more) == (made[:3], True)
    second = client.v1.customers.list({"limit": 3, "starting_after": made[2]})
    assert [c.id for c in second.data] == made[3:6]
    back = client.v1.customers.list({"limit": 2, "ending_before": made[3]})
    assert [c.id for c in back.data] == made[1:3]
    assert [c.id for c in client.v1.customers.list({"limit": 2}).auto_paging_iter()] == made


def test_lists_filter_by_creation(stripe_sandbox, client):
    old = client.v1.customers.create()
    stripe_sandbox.advance(100)
    new = client.v1.customers.create()
    assert [c.id for c in client.v1.customers.list({"created": {"gt": old.created}}).data] == [new.id]


def test_fields_are_expanded_where_asked(client, metered):
    found = client.v1.subscriptions.retrieve(
        metered.subscription.id, {"expand": ["customer", "default_payment_method", "items.data.price.product"]}
    )
    assert found.customer.email == "owner@customer.example"
    assert found.default_payment_method.card.last4 == "4242"
    assert found["items"].data[0].price.product.name == "Voice"
    listed = client.v1.subscriptions.list({"expand": ["data.customer"]})
    assert listed.data[0].customer.id == metered.customer.id


def test_a_field_that_does_not_exist_cannot_be_expanded(client, metered):
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        client.v1.subscriptions.retrieve(metered.subscription.id, {"expand": ["owner"]})


def test_an_idempotency_key_gives_the_first_answer_again(client):
    first, again = (client.v1.customers.create({"name": "Once"}, {"idempotency_key": "key-1"}) for _ in range(2))
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(client.v1.customers.list().data) == 1


def test_an_idempotency_key_with_other_parameters_is_an_error(client):
    client.v1.customers.create({"name": "Once"}, {"idempotency_key": "key-1"})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "Twice"}, {"idempotency_key": "key-1"})


def test_an_idempotency_key_is_free_again_after_a_day(stripe_sandbox, client):
    first = client.v1.customers.create({"name": "Once"}, {"idempotency_key": "key-1"})
    stripe_sandbox.advance(24 * 3600 + 1)
    assert client.v1.customers.create({"name": "Twice"}, {"idempotency_key": "key-1"}).id != first.id


def test_a_refused_request_leaves_its_key_free(client):
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create({"nonsense": 1}, {"idempotency_key": "key-1"})
    assert client.v1.customers.create({"name": "Right"}, {"idempotency_key": "key-1"}).name == "Right"


def test_a_declined_charge_is_declined_again_under_its_key(client):
    params = {"amount": 900, "currency": "usd", "payment_method": "pm_card_visa_chargeDeclined", "confirm": True}
    params["return_url"] = "https://portal.example/"
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            client.v1.payment_intents.create(params, {"idempotency_key": "charge-1"})
    assert len(client.v1.payment_intents.list().data) == 1


def test_an_unlikely_key_is_too_long(client):
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create({}, {"idempotency_key": "k" * 256})


@pytest.mark.parametrize("key", ["none", "sk_live_abc", "nonsense"])
def test_only_test_keys_are_let_in(stripe_sandbox, key):
    answer = stripe_sandbox.control.get("/v1/customers", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_unknown_address_is_a_404_in_stripes_words(stripe_sandbox):
    answer = stripe_sandbox.control.get("/v1/unicorns", headers={"Authorization": "Bearer sk_test_x"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith("Unrecognized request URL")


def test_requests_can_be_failed_on_purpose(stripe_sandbox, client):
    stripe_sandbox.faults(fail_next={"count": 2, "status": 500, "path": "/v1/customers"})
    client.v1.products.create({"name": "Unharmed"})
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            client.v1.customers.create()
    assert client.v1.customers.create().id


def test_a_server_error_after_the_effect_can_be_kept_under_its_key(stripe_sandbox, client):
    stripe_sandbox.faults(fail_next={"count": 1, "status": 500, "when": "after", "stored": True})
    for replayed in (None, "true"):
        with pytest.raises(stripe.APIError) as failed:
            client.v1.customers.create({"name": "Lost"}, {"idempotency_key": "lost"})
        assert failed.value.headers.get("Idempotent-Replayed") == replayed
    assert [customer.name for customer in client.v1.customers.list().data] == ["Lost"]


def test_a_request_can_time_out_after_its_effect(stripe_sandbox, client):
    stripe_sandbox.faults(timeout_next={"count": 1, "when": "after", "seconds": 1})
    headers = {"Authorization": "Bearer sk_test_x", "Idempotency-Key": "lost"}
    with httpx.Client(base_url=stripe_sandbox.url, timeout=0.3) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post("/v1/customers", headers=headers)
    assert len(client.v1.customers.list().data) == 1
    again = stripe_sandbox.control.post("/v1/customers", headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_request_can_time_out_before_its_effect(stripe_sandbox, client):
    stripe_sandbox.faults(timeout_next={"count": 1, "when": "before", "seconds": 0.5})
    with pytest.raises(stripe.StripeError):
        client.v1.customers.create()
    time.sleep(0.3)
    assert client.v1.customers.list().data == []


def test_a_deleted_customer_is_shown_as_deleted(client, metered):
    client.v1.customers.delete(metered.customer.id)
    assert client.v1.customers.retrieve(metered.customer.id).deleted
    assert client.v1.subscriptions.retrieve(metered.subscription.id).status == "canceled"


def test_twelve_decimals_of_a_unit_amount_are_kept(client):
    product = client.v1.products.create({"name": "Small"})
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "product": product.id,
            "unit_amount_decimal": "0.000100000001",
            "currency_options": {"eur": {"unit_amount_decimal": "0.0001"}},
        }
    )
    assert (str(price.unit_amount_decimal), price.unit_amount) == ("0.000100000001", None)
    found = client.v1.prices.retrieve(price.id, {"expand": ["currency_options"]})
    assert str(found.currency_options["eur"].unit_amount_decimal) == "0.0001"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.prices.create({"currency": "usd", "product": product.id, "unit_amount_decimal": "0.0000000000001"})
