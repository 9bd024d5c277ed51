"""Reports: every settlement told to Stripe exactly once, whatever happens on the way."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection

from accounts.models import Organization
from billing_portal.billing import gateway, meter_sums, metering
from billing_portal.billing.models import Customer, Invoice, Meter, Report, ReportBatch, ReportedSettlement
from tests.billing.world import ANCHOR, MIDMONTH, MONTH, settled
from tests.stripe.conftest import RunningSandbox

Subscribed = Callable[..., Organization]
LATER = MIDMONTH + timedelta(minutes=5)


def counted(organization: Organization, component: str) -> int:
    meter = Meter.objects.get(component=component)
    customer = Customer.objects.get(organization=organization)
    return meter_sums.counted(meter, customer, datetime(2027, 2, 1, 12, tzinfo=UTC), ANCHOR)


def write_and_send(organization: Organization, now: datetime = LATER) -> int:
    metering.write_reports(organization.pk, now=now)
    return metering.send_reports(now=now, organization_id=organization.pk)


# Writing


def test_a_batch_has_one_report_a_component_with_the_gross(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700, "voice": 30})
    settled(acme, {"llm": 1, "platform": 0})
    assert metering.write_reports(acme.pk, now=LATER) == 2
    assert metering.reported(acme.pk, MONTH) == {"llm": 701, "voice": 30}
    assert ReportBatch.objects.get().month == MONTH


def test_i04_a_settlement_is_reported_once(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    assert [metering.write_reports(acme.pk, now=LATER) for _ in range(3)] == [1, 0, 0]
    settled(acme, {"llm": 5})
    metering.write_reports(acme.pk, now=LATER)
    assert metering.reported(acme.pk, MONTH) == {"llm": 705}
    assert ReportedSettlement.objects.count() == 2


def test_i08_one_batch_or_several_report_the_same(subscribed: Subscribed) -> None:
    acme, other = subscribed("acme"), subscribed("other")
    for micros in (3, 11, 500):
        settled(acme, {"llm": micros})
        metering.write_reports(acme.pk, now=LATER)
        settled(other, {"llm": micros})
    metering.write_reports(other.pk, now=LATER)
    assert metering.reported(acme.pk, MONTH) == metering.reported(other.pk, MONTH) == {"llm": 514}


def test_usage_waits_for_the_subscription(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    Customer.objects.update(subscribed_at=None)
    settled(acme, {"llm": 700})
    assert metering.write_reports(acme.pk, now=LATER) == 0


def test_usage_of_a_month_waits_for_its_period_at_noon(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700}, month=date(2027, 3, 1))
    settled(acme, {"llm": 5})
    assert metering.write_reports(acme.pk, now=ANCHOR - timedelta(seconds=1)) == 1
    assert metering.reported(acme.pk, date(2027, 3, 1)) == {}
    assert metering.write_reports(acme.pk, now=ANCHOR) == 1
    assert metering.reported(acme.pk, date(2027, 3, 1)) == {"llm": 700}


def test_f47_nothing_is_reported_into_a_final_invoice(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    Invoice.objects.create(
        organization=acme, stripe_invoice_id="in_1", month=MONTH, state="open", currency="USD", drafted_at=ANCHOR
    )
    settled(acme, {"llm": 700})
    assert metering.write_reports(acme.pk, now=ANCHOR + timedelta(hours=2)) == 0


def test_organizations_are_due_once_in_ten_minutes(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    assert metering.unreported_organizations(now=LATER, limit=10) == []
    settled(acme, {"llm": 700})
    assert metering.unreported_organizations(now=LATER, limit=10) == [acme.pk]
    metering.write_reports(acme.pk, now=LATER)
    assert metering.unreported_organizations(now=LATER, limit=10) == []
    settled(acme, {"llm": 1})
    assert metering.unreported_organizations(now=LATER, limit=10) == []
    assert metering.unreported_organizations(now=LATER + metering.BATCH_EVERY, limit=10) == [acme.pk]


# Sending


def test_stripe_counts_what_was_settled(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700, "voice": 30})
    assert write_and_send(acme) == 2
    assert not metering.unaccepted(acme.pk, MONTH).exists()
    assert list(meter_sums.differences(acme.pk, MONTH, {"llm": 700, "voice": 30})) == []
    assert (counted(acme, "llm"), counted(acme, "voice"), counted(acme, "platform")) == (700, 30, 0)


def test_every_report_of_a_meter_has_a_minute_of_its_own(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    for micros in (1, 2, 3):
        settled(acme, {"llm": micros, "voice": 1})
        write_and_send(acme)
    minutes = Report.objects.filter(component="llm").order_by("id").values_list("minute_at", flat=True)
    assert list(minutes) == [LATER, LATER - timedelta(minutes=1), LATER - timedelta(minutes=2)]
    assert counted(acme, "llm") == 6


def test_a_report_without_a_free_minute_waits(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    start = MIDMONTH + timedelta(minutes=1)
    for micros in (1, 2):
        settled(acme, {"llm": micros})
        metering.write_reports(acme.pk, now=start)
    Customer.objects.update(subscribed_at=start)
    assert metering.send_reports(now=start) == 1
    assert metering.send_reports(now=start) == 0
    assert metering.send_reports(now=start + timedelta(minutes=1)) == 1
    assert counted(acme, "llm") == 3


def test_a_report_after_the_anchor_is_stamped_in_the_period_of_its_month(
    stripe: RunningSandbox, subscribed: Subscribed
) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    stripe.advance_to((ANCHOR + timedelta(minutes=10)).timestamp())
    assert write_and_send(acme, ANCHOR + timedelta(minutes=10)) == 1
    assert Report.objects.get().minute_at == ANCHOR - timedelta(minutes=1)
    assert counted(acme, "llm") == 700


def test_f14_a_report_whose_answer_was_never_recorded_counts_once(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    write_and_send(acme)
    Report.objects.update(state=Report.State.SENDING, accepted_at=None)
    assert metering.send_reports(now=LATER) == 1
    assert counted(acme, "llm") == 700


@pytest.mark.parametrize("when", ["before", "after"])
def test_f17_a_timeout_is_repeated_with_the_same_identifier_and_minute(
    stripe: RunningSandbox, subscribed: Subscribed, when: str
) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    stripe.faults(timeout_next={"when": when, "seconds": 4, "path": "meter_events"})
    assert write_and_send(acme) == 0
    tried = Report.objects.get()
    assert (tried.state, tried.attempts) == (Report.State.SENDING, 1)
    assert metering.send_reports(now=LATER + timedelta(minutes=3)) == 1
    sent = Report.objects.get()
    assert (sent.identifier, sent.minute_at, sent.attempts) == (tried.identifier, tried.minute_at, 2)
    assert counted(acme, "llm") == 700


def test_f18_over_the_rate_limit_it_backs_off_and_tries_again(stripe: RunningSandbox, subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    stripe.faults(fail_next={"status": 429, "count": 2, "path": "meter_events"})
    assert write_and_send(acme) == 1
    assert counted(acme, "llm") == 700


def test_f19_a_server_error_stays_in_flight(stripe: RunningSandbox, subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    stripe.faults(fail_next={"status": 500, "path": "meter_events"})
    assert write_and_send(acme) == 0
    assert Report.objects.get().state == Report.State.SENDING
    assert metering.send_reports(now=LATER) == 1
    assert counted(acme, "llm") == 700


@pytest.mark.parametrize("arrived", [True, False])
def test_an_uncertain_report_of_yesterday_is_settled_by_its_minute(
    stripe: RunningSandbox, subscribed: Subscribed, arrived: bool
) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})
    when = "after" if arrived else "before"
    stripe.faults(timeout_next={"when": when, "seconds": 4, "path": "meter_events"})
    write_and_send(acme)
    tomorrow = LATER + timedelta(hours=30)
    stripe.advance_to(tomorrow.timestamp())
    assert metering.send_reports(now=tomorrow) == 1
    assert counted(acme, "llm") == 700


def test_a_refused_report_is_kept_with_its_reason_and_can_be_sent_again(
    subscribed: Subscribed, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = subscribed("acme")
    settled(acme, {"llm": 700})

    def refuse(**_: object) -> gateway.Object:
        raise gateway.Refused("The timestamp is too far in the past.", code="timestamp_too_far_in_past")

    with monkeypatch.context() as patched:
        patched.setattr(gateway, "create_meter_event", refuse)
        assert write_and_send(acme) == 0
    report = Report.objects.get()
    assert report.state == Report.State.REJECTED
    assert report.error["code"] == "timestamp_too_far_in_past"
    assert metering.send_reports(now=LATER) == 0
    metering.resend(report)
    assert metering.send_reports(now=LATER) == 1
    assert counted(acme, "llm") == 700


def test_f23_many_senders_at_once_have_one_report_of_a_meter_in_flight(
    stripe: RunningSandbox, subscribed: Subscribed, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = subscribed("acme")
    stripe.advance(15 * 60)
    for micros in range(1, 9):
        settled(acme, {"llm": micros, "voice": micros})
        metering.write_reports(acme.pk, now=LATER)
    in_flight: Counter[str] = Counter()
    most: Counter[str] = Counter()
    guard, post = threading.Lock(), gateway.create_meter_event

    def watched(**event: object) -> gateway.Object:
        name = str(event["event_name"])
        with guard:
            in_flight[name] += 1
            most[name] = max(most[name], in_flight[name])
        try:
            return post(**event)  # type: ignore[arg-type]
        finally:
            with guard:
                in_flight[name] -= 1

    monkeypatch.setattr(gateway, "create_meter_event", watched)
    start = threading.Barrier(4)

    def send() -> None:
        start.wait()
        metering.send_reports(now=LATER + timedelta(minutes=10))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metering.send_reports(now=LATER + timedelta(minutes=10))
    assert set(most.values()) == {1}
    assert not metering.unaccepted(acme.pk, MONTH).exists()
    assert counted(acme, "llm") == counted(acme, "voice") == 36


def test_f23_two_writers_at_once_report_a_settlement_once(subscribed: Subscribed) -> None:
    acme = subscribed("acme")
    for micros in range(1, 20):
        settled(acme, {"llm": micros})
    start = threading.Barrier(4)

    def write() -> None:
        start.wait()
        metering.write_reports(acme.pk, now=LATER)
        connection.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metering.reported(acme.pk, MONTH) == {"llm": sum(range(1, 20))}
    assert ReportBatch.objects.count() == 1
