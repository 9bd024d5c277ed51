"""Meters and meter events, as the portal reports to them."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from tests.stripe.conftest import Metered, RunningSandbox, metered_customer, report


def summaries(client: stripe.StripeClient, metered: Metered, start: int, end: int, **fields: object) -> list:
    params = {"customer": metered.customer.id, "start_time": start, "end_time": end, **fields}
    return client.v1.billing.meters.event_summaries.list(metered.meter.id, params).data


def minute(sandbox: RunningSandbox) -> int:
    return sandbox.timestamp() // 60 * 60


def test_a_meter_event_shows_in_the_summary_a_moment_later(stripe_sandbox, client, metered):
    start = minute(stripe_sandbox)
    report(client, metered, 1500)
    report(client, metered, -500)
    time.sleep(0.3)
    (summary,) = summaries(client, metered, start, start + 120)
    assert summary.aggregated_value == 1000


def test_aggregation_is_not_immediate(stripe_sandbox, client, metered):
    start = minute(stripe_sandbox)
    report(client, metered, 1)
    assert summaries(client, metered, start, start + 120) == []


def test_an_identifier_is_taken_once(client, metered):
    report(client, metered, 1, identifier="call-1")
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        report(client, metered, 1, identifier="call-1")


def test_an_identifier_is_free_again_after_a_day(stripe_sandbox, client, metered):
    report(client, metered, 1, identifier="call-1")
    stripe_sandbox.advance(24 * 3600 + 1)
    assert report(client, metered, 1, identifier="call-1").identifier == "call-1"


@pytest.mark.parametrize("value", ["1.5", "1e3", "", "1" * 16, "many"])
def test_a_value_is_a_whole_number_of_up_to_15_digits(client, metered, value):
    payload = {"stripe_customer_id": metered.customer.id, "value": value}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meter_events.create({"event_name": metered.meter.event_name, "payload": payload})
    assert refused.value.http_status == 400


@pytest.mark.parametrize("offset", [-35 * 86400 - 60, 360])
def test_a_timestamp_is_at_most_35_days_old_and_5_minutes_ahead(stripe_sandbox, client, metered, offset):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        report(client, metered, 1, timestamp=stripe_sandbox.timestamp() + offset)
    assert refused.value.param == "timestamp"


@pytest.mark.parametrize("offset", [-35 * 86400 + 60, 290])
def test_timestamps_within_the_window_are_taken(stripe_sandbox, client, metered, offset):
    report(client, metered, 1, timestamp=stripe_sandbox.timestamp() + offset)


def test_two_calls_at_once_for_one_customer_and_meter_collide(client, metered):
    def attempt(number: int) -> str:
        try:
            report(client, metered, number)
        except stripe.StripeError as error:
            return f"{error.http_status} {error.error.code}"
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(attempt, range(40)))
    assert outcomes == {"taken", "429 lock_timeout"}


def test_a_summary_starts_and_ends_on_a_minute(stripe_sandbox, client, metered):
    start = minute(stripe_sandbox)
    with pytest.raises(stripe.InvalidRequestError, match="minute"):
        summaries(client, metered, start + 1, start + 60)


def test_summaries_can_be_grouped_by_the_hour(stripe_sandbox, client, metered):
    hour = stripe_sandbox.timestamp() // 3600 * 3600 - 3 * 3600
    report(client, metered, 2, timestamp=hour + 10)
    report(client, metered, 3, timestamp=hour + 3600)
    time.sleep(0.3)
    found = summaries(client, metered, hour, hour + 3 * 3600, value_grouping_window="hour")
    assert sorted((s.start_time - hour, s.aggregated_value) for s in found) == [(0, 2), (3600, 3)]


def test_an_adjustment_cancels_an_event(stripe_sandbox, client, metered):
    start = minute(stripe_sandbox)
    report(client, metered, 7, identifier="wrong")
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": metered.meter.event_name, "type": "cancel", "cancel": {"identifier": "wrong"}}
    )
    time.sleep(0.3)
    assert summaries(client, metered, start, start + 120) == []


def test_two_active_meters_cannot_share_an_event_name(client, metered):
    with pytest.raises(stripe.InvalidRequestError, match="already an active meter"):
        client.v1.billing.meters.create(
            {
                "display_name": "Again",
                "event_name": metered.meter.event_name,
                "default_aggregation": {"formula": "sum"},
            }
        )


def test_only_an_event_of_the_last_day_can_be_canceled(stripe_sandbox, client, metered):
    report(client, metered, 7, identifier="old")
    stripe_sandbox.advance(24 * 3600 + 1)
    cancel = {"event_name": metered.meter.event_name, "type": "cancel", "cancel": {"identifier": "old"}}
    with pytest.raises(stripe.InvalidRequestError, match="24 hours"):
        client.v1.billing.meter_event_adjustments.create(cancel)


def test_an_adjustment_leaves_a_finalised_invoice_as_it_is(stripe_sandbox, client, metered):
    stripe_sandbox.advance_to(metered.period_end - 60)
    report(client, metered, 1_000_000, identifier="late")
    stripe_sandbox.advance_to(metered.period_end + 3_700)
    (invoice,) = client.v1.invoices.list({"customer": metered.customer.id}).data
    assert (invoice.status, invoice.total) == ("paid", 1_000)
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": metered.meter.event_name, "type": "cancel", "cancel": {"identifier": "late"}}
    )
    assert client.v1.invoices.retrieve(invoice.id).total == 1_000


def test_calls_for_different_meters_do_not_collide(client):
    owners = [metered_customer(client) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda owner: [report(client, owner, 1) for _ in range(5)], owners))
    assert sum(map(len, taken)) == 20


def test_events_count_once_in_whatever_order_they_arrive(stripe_sandbox, client, metered):
    start = minute(stripe_sandbox)
    for value in (5, -3, 8, -2):
        report(client, metered, value, timestamp=start - value)
    time.sleep(0.3)
    (summary,) = summaries(client, metered, start - 60, start + 60)
    assert summary.aggregated_value == 8
