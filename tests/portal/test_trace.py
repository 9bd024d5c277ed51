"""Trace my ID, and the completeness seal in words."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.ledger import accounts, credits, settlement
from billing_portal.portal import seal
from tests.billing import world
from tests.portal.test_pages import text_of
from usage import completeness, intake_log
from usage.completeness import Arrival
from usage.intake_log import Rejected, Repeated

pytestmark = pytest.mark.django_db
LATER = timedelta(hours=3)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _three_hours_later(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def busy(acme, now):
    """Acme with ten settled calls, paid for by its welcome credit."""
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    credits.grant_welcome(organization=acme, now=now)
    world.record_calls(acme, 10, starts_at=now, now=now + MINUTE * 60)
    settlement.settle_all(acme.pk, now=now + MINUTE * 61)
    return acme


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def ask(client, organization, call_id=None):
    query = {} if call_id is None else {"id": call_id}
    return client.get(reverse("trace", args=[organization.public_id]), query)


def let_arrive(organization, numbers, *, now, source="eu-1"):
    completeness.note([Arrival(organization.pk, source, n, now) for n in numbers], now=now)


# ── One id ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_unknown_id_says_so_plainly_and_what_to_do(client, busy, settings):
    for call_id in ("call_nowhere", "x" * 400, "a\x00b", "<script>"):
        page = ask(client, busy, call_id)
        text = text_of(page)
        assert page.status_code == 200
        assert "Nothing is known under this id" in text
        assert "letter by letter" in text
        assert settings.SUPPORT_EMAIL in text


def test_a_funded_call_is_a_timeline_with_times(client, busy):
    page = ask(client, busy, " call_1_4 ")
    text = text_of(page)
    for words in ("Received Oct 15, 2026, 10:30:00", "Rated", "Funded Oct 15, 2026, 10:31:00", "Welcome credit"):
        assert words in text
    assert "Waits to be reported" in text
    assert "The invoice of October 2026 is made when that month has ended" in text
    assert reverse("call", args=[busy.public_id, "call_1_4"]) in page.content.decode()


def test_copies_and_earlier_rejections_are_told(client, busy, now):
    intake_log.note([Rejected(busy.pk, "call_1_4", 0, "duration_ms", "Expected `int`, got `str`.")], [], now=now)
    copies = [Repeated(busy.pk, "call_1_4", False), Repeated(busy.pk, "call_1_4", True)]
    for _ in range(2):
        intake_log.note([], copies, now=now + 2 * LATER)
    text = text_of(ask(client, busy, "call_1_4"))
    assert "Rejected before" in text
    assert "Sent again, 2 times Oct 15, 2026, 15:30:00" in text
    assert "Other content refused, 2 times" in text


def test_an_id_that_was_only_rejected_says_why_and_what_to_do(client, busy, now):
    for _ in range(3):
        intake_log.note([Rejected(busy.pk, "call_bad", 0, "end_timestamp", "It ends before it starts.")], [], now=now)
    text = text_of(ask(client, busy, "call_bad"))
    assert "Rejected, 3 times" in text
    assert "end_timestamp : It ends before it starts." in text
    assert "Nothing was recorded and nothing is charged" in text
    assert "What to do" in text


def test_i16_the_page_knows_nothing_of_another_organization_s_calls(busy, other, charlie):
    client = Client()
    client.force_login(charlie, backend="django.contrib.auth.backends.ModelBackend")
    assert "Nothing is known under this id" in text_of(ask(client, other, "call_1_4"))


# ── The seal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_numbers_the_seal_promises_nothing(client, acme):
    text = text_of(ask(client, acme))
    assert "No gaps can be seen" in text
    assert "none rejected" in text
    assert "Nothing was rejected" in text


def test_a_complete_day_is_sealed(acme, now):
    let_arrive(acme, range(1, 1042), now=now)
    for call_id in ("call_a", "call_b"):
        intake_log.note([Rejected(acme.pk, call_id, 0, "", "No.")], [], now=now)
    shown = seal.of(acme, now=now + LATER)
    assert f"{shown.headline}, {shown.rejected}" == "Complete to 09:30, no gaps, 2 rejected"
    assert shown.tone == "warn"
    assert seal.of(acme, now=now + 10 * LATER).headline == "Complete to Oct 15, 2026, 09:30, no gaps"


def test_the_usage_page_shows_the_seal_and_the_way_to_trace(client, busy, now):
    usage = reverse("usage", args=[busy.public_id])
    trace = reverse("trace", args=[busy.public_id])
    page = client.get(usage)
    assert f'href="{trace}"' in page.content.decode()
    assert "Trace a call" in text_of(page)
    let_arrive(busy, range(1, 11), now=now)
    assert "Complete to 09:30, no gaps, none rejected" in text_of(client.get(usage))
    assert (
        f'href="{trace}?id=call_x"'
        in client.get(reverse("calls", args=[busy.public_id]), {"call_id": "call_x"}).content.decode()
    )
    call = client.get(reverse("call", args=[busy.public_id, "call_1_4"])).content.decode()
    assert f'href="{trace}?id=call_1_4"' in call


def test_a_gap_is_told_with_its_neighbours(client, acme, now):
    let_arrive(acme, range(1, 1042), now=now - 2 * MINUTE)
    let_arrive(acme, [1045], now=now)
    shown = seal.of(acme, now=now + LATER)
    assert shown.headline == "3 missing, complete to 09:28"
    assert shown.gaps == ["3 missing between #1,041 and #1,045 since 09:30"]
    let_arrive(acme, [7], now=now, source="us-1")
    assert "3 missing between #1,041 and #1,045 of eu-1 since 09:30" in text_of(ask(client, acme))


def test_what_may_still_be_on_its_way_is_not_called_missing(acme, now):
    let_arrive(acme, [1, 3], now=now)
    assert seal.of(acme, now=now).headline == "Complete to 09:30, 1 arriving"


def test_rejections_lead_to_their_traces(client, acme, now):
    intake_log.note([Rejected(acme.pk, "call/ö &1", 0, "", "No."), Rejected(acme.pk, None, 1, "x", "y")], [], now=now)
    page = ask(client, acme)
    assert f"{reverse('trace', args=[acme.public_id])}?id=call%2F%C3%B6%20%261" in page.content.decode()
    assert "Without a readable id" in text_of(page)


def test_the_page_asks_the_database_a_fixed_number_of_times(client, acme, now, django_assert_max_num_queries):
    for number in range(40):
        let_arrive(acme, [1, 3], now=now, source=f"s-{number}")
    with django_assert_max_num_queries(14):
        ask(client, acme)
