"""Letters before credit expires: at the right time, once each, and saying what happens then."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as outbox

from accounts import organizations, posting
from accounts.models import Letter, Membership
from billing_portal.billing import expiry_warnings, tasks
from billing_portal.billing.models import PaymentMethod
from billing_portal.ledger import accounts, credits
from billing_portal.ledger.models import Grant
from tests.conftest import join

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(acme, now):
    return accounts.open(organization=acme, now=now)


def give(organization, now, *, expires_at, micros=7_310_000, reference="g", kind=Grant.Kind.GOODWILL):
    return credits.grant(
        organization=organization, kind=kind, micros=micros, reference=reference, now=now, expires_at=expires_at
    )


def sent(now):
    outbox.outbox.clear()
    posting.post(Letter.objects.all(), now=now)
    return outbox.outbox


def test_each_warning_is_written_once_however_often_the_sweep_runs(acme, books, now):
    end = now + timedelta(days=30)
    give(acme, now, expires_at=end)
    written = {}
    hour = now
    while hour < end + timedelta(days=1):
        if count := expiry_warnings.warn(now=hour):
            written[hour] = count
        hour += timedelta(hours=6)
    assert set(written.values()) == {1}
    assert [(end.date() - hour.date()).days for hour in written] == [14, 3, 0]
    subjects = [message.subject for message in sent(now)]
    assert [subject.partition("expires ")[2] for subject in subjects] == ["in 14 days", "in 3 days", "today"]


def test_a_grant_younger_than_its_warning_gets_the_next_one_only(acme, books, now):
    give(acme, now, expires_at=now + timedelta(days=2))
    assert expiry_warnings.warn(now=now) == 1
    assert [message.subject for message in sent(now)] == ["$7.31 of Acme Robotics's credit expires in 2 days"]


@pytest.mark.parametrize(("zone", "days"), [("UTC", 1), ("America/Los_Angeles", 0)])
def test_f45_the_last_day_is_the_customer_s(make_organization, alice, now, zone, days):
    organization = make_organization("zoned", owner=alice, time_zone=zone)
    accounts.open(organization=organization, now=now)
    midnight = datetime(2026, 10, 17, 7, tzinfo=UTC)  # 16 October ends in Los Angeles
    grant = give(organization, now, expires_at=midnight)
    at = datetime(2026, 10, 16, 12, tzinfo=UTC)
    assert credits.days_left(grant, zone=organization.zone, now=at) == days
    expiry_warnings.warn(now=at)
    assert Letter.objects.get().reference.endswith(":3" if days else ":0")


def test_what_is_spent_expired_or_for_ever_and_who_is_closed_is_not_written_of(acme, books, now):
    give(acme, now, expires_at=None, reference="for ever")
    spent = give(acme, now, expires_at=now + timedelta(days=2), reference="spent")
    Grant.objects.filter(pk=spent.pk).update(remaining_micros=0)
    give(acme, now, expires_at=now + timedelta(days=20), reference="later")
    give(acme, now, expires_at=now + timedelta(days=1), reference="soon")
    organizations.Organization.objects.filter(pk=acme.pk).update(status="closed")
    assert expiry_warnings.warn(now=now) == 0
    organizations.Organization.objects.filter(pk=acme.pk).update(status="active")
    assert expiry_warnings.warn(now=now) == 1


@pytest.mark.parametrize(
    ("other_credit", "card", "told"),
    [
        (0, False, "usage stops: there is no other credit and no card"),
        (0, True, "goes on without interruption and is charged to your card"),
        (5_000_000, True, "usage takes your other $5.00 of credit, then your card"),
        (5_000_000, False, "usage takes your other $5.00 of credit. When that ends"),
    ],
)
def test_the_letter_says_until_when_and_what_happens_then(acme, books, now, other_credit, card, told):
    give(acme, now, expires_at=now + timedelta(days=3))
    if other_credit:
        give(acme, now, expires_at=None, micros=other_credit, reference="p", kind=Grant.Kind.PREPAID)
    if card:
        PaymentMethod.objects.create(
            organization=acme, stripe_payment_method_id="pm_1", kind="card", is_default=True, created_at=now
        )
    tasks.expiry_warnings.warn(now=now)
    message = sent(now)[0]
    for body in (message.body, message.alternatives[0].content):
        text = " ".join(body.replace("<strong>", "").replace("</strong>", "").split())
        assert told in text
        assert "Oct 18, 2026, 09:30 (UTC)" in text
        assert "$7.31 of credit expires in 3 days" in text
        assert f"/o/{acme.public_id}/credits/" in text


def test_it_goes_to_those_who_read_about_money(acme, books, now, make_user):
    join(acme, make_user("bea@acme.example"), Membership.Role.BILLING)
    join(acme, make_user("dev@acme.example"), Membership.Role.DEVELOPER)
    give(acme, now, expires_at=now + timedelta(days=3))
    assert expiry_warnings.warn(now=now) == 1
    assert sent(now)[0].to == ["bea@acme.example"]
