"""The customer's pages on real data: what they say, with and without htmx, and that they ask the database little."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing_portal.billing.models import Invoice
from billing_portal.ledger import accounts, credits, settlement
from billing_portal.ledger.models import Account
from billing_portal.portal import onboarding
from tests.billing import world
from tests.charged import all_charges
from tests.conftest import join
from usage.models import Call

pytestmark = pytest.mark.django_db
HTMX = {"headers": {"HX-Request": "true"}}


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now + timedelta(hours=3))
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def busy(acme, now) -> Organization:
    """Acme with 120 settled calls, a welcome credit burnt on the way, and three calls not settled yet."""
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    credits.grant_welcome(organization=acme, now=now)
    world.record_calls(acme, 120, starts_at=now, now=now + timedelta(days=1))
    settlement.settle_all(acme.pk, now=now)
    world.record_calls(acme, 3, starts_at=now - timedelta(days=2), now=now, seed=7)
    return acme


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def get(client, name, organization, *more, **query):
    return client.get(reverse(name, args=[organization.public_id, *more]), query)


def text_of(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_the_overview_of_a_new_customer_says_what_to_do(client, acme, now):
    accounts.open(organization=acme, now=now)
    credits.grant_welcome(organization=acme, now=now)
    text = text_of(get(client, "overview", acme))
    assert "$10.00" in text
    assert "Save a card" in text
    assert "No calls yet" in text


def test_usage_stopped_for_want_of_credit_says_so_with_the_way_out(client, acme, now):
    accounts.open(organization=acme, now=now)
    page = get(client, "overview", acme)
    assert "Usage is stopped" in text_of(page)
    assert reverse("payment_method_add", args=[acme.public_id]) in page.content.decode()


def test_every_call_is_reached_once_by_paging(client, busy):
    seen: list[str] = []
    url = reverse("calls", args=[busy.public_id])
    while url:
        page = client.get(url).content.decode()
        seen += re.findall(r'usage/calls/(call_\w+)/"', page)
        following = re.search(r'href="([^"]+)"\s+rel="next"', page.partition('id="calls"')[2])
        url = following[1].replace("&amp;", "&") if following else ""
    assert len(seen) == len(set(seen)) == Call.objects.count() == 123


def test_htmx_gets_the_calls_alone_and_everyone_else_the_page(client, busy):
    url = reverse("calls", args=[busy.public_id])
    fragment, page = client.get(url, **HTMX).content.decode(), client.get(url).content.decode()
    assert "<html" not in fragment
    assert "<html" in page
    assert "call_1_119" in fragment


def test_filters_work_by_address_alone(client, busy):
    page = text_of(get(client, "calls", busy, call_id="call_1_7"))
    assert "call_1_7 " in page
    assert "call_1_71" not in page
    page = text_of(get(client, "calls", busy, call_id="call_1_"))
    assert "call_1_119" in page
    assert "call_7_0" not in page
    assert "No call matches" in text_of(get(client, "calls", busy, status="error"))


@pytest.mark.parametrize(
    "query",
    [{"from": "yesterday"}, {"cursor": "%%%"}, {"from": "2030-01-01", "to": "2020-01-01"}, {"product": "\x00"}],
)
def test_a_strange_address_still_shows_a_page(client, busy, query):
    assert get(client, "calls", busy, **query).status_code == 200
    assert get(client, "usage", busy, **query).status_code == 200


def test_a_call_opens_into_its_price_and_who_pays(client, busy):
    call = Call.objects.get(call_id="call_1_119")
    text = text_of(get(client, "call", busy, call.call_id))
    assert "Price by component" in text
    assert "Your card, on the invoice" in text
    assert "a minute" in text


def test_a_call_not_settled_yet_is_shown_as_such(client, busy):
    assert "Settled within seconds" in text_of(get(client, "call", busy, "call_7_0"))
    assert "being settled" in text_of(get(client, "calls", busy, to="2026-10-13"))


def test_overview_usage_credits_and_ledger_say_the_same(client, busy, now):
    gross = sum(charge.amount_micros for charge in all_charges() if charge.sequence)
    shown = f"${gross / 1e6:,.2f}"
    assert shown in text_of(get(client, "overview", busy))
    assert shown in text_of(get(client, "usage", busy, **{"from": "2026-10-01", "to": "2026-10-31"}))
    accrued = f"{(gross - 10_000_000) / 1e6:,.6f}".rstrip("0")
    assert accrued in text_of(get(client, "credits", busy))


@pytest.mark.parametrize("by", ["component", "model", "voice", "telephony", "agent", "nonsense"])
def test_i09_every_breakdown_ends_in_the_total_of_its_days(client, busy, by):
    gross = sum(charge.amount_micros for charge in all_charges() if charge.sequence)
    page = get(client, "usage", busy, by=by, days="month").content.decode()
    total = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.rindex("<tfoot>") :]))
    assert f"Total 120 {minutes_of(page)}" in total
    assert f"${gross / 1e6:,.2f} 100.0%" in total


def minutes_of(page):
    return re.search(r"Minutes\s*</p>\s*<p class=\"stat-value\">([^<]+)<", page)[1]


def test_what_is_compared_with_stands_in_the_page_and_in_the_address(client, busy):
    assert "Compared with Sep 1, 2026 – Sep 15, 2026." in text_of(get(client, "usage", busy, days="month"))
    same = get(client, "usage", busy, **{"days": "month", "compare": "days", "with": "2026-10-01"})
    assert "±0%, from 120" in text_of(same)
    assert "Compared with" not in text_of(get(client, "usage", busy, compare="none"))
    url = reverse("usage", args=[busy.public_id])
    answer = client.get(url, {"days": "month", "from": "", "to": "", "by": "model", "compare": "year"}, **HTMX)
    assert answer["HX-Push-Url"] == f"{url}?days=month&by=model&compare=year"
    assert "<html" not in answer.content.decode()


def test_an_invoice_line_lists_the_calls_behind_it(client, busy, now):
    invoice = Invoice.objects.create(
        organization=busy, stripe_invoice_id="in_1", currency="USD", drafted_at=now, month=now.date().replace(day=1)
    )
    text = text_of(get(client, "invoice_line", busy, invoice.public_id, "llm"))
    assert "The calls behind this line" in text
    assert "call_1_" in text
    assert get(client, "invoice_line", busy, invoice.public_id, "nonsense").status_code == 404


@pytest.mark.parametrize(
    ("name", "most"), [("overview", 26), ("usage", 24), ("calls", 16), ("credits", 35), ("invoices", 12)]
)
def test_pages_ask_the_database_a_fixed_number_of_times(client, busy, django_assert_max_num_queries, name, most):
    get(client, name, busy)
    with django_assert_max_num_queries(most):
        get(client, name, busy)


def test_settings_are_saved_and_the_zone_waits_for_the_next_month(client, acme, now):
    accounts.open(organization=acme, now=now)
    form = {"name": "Acme Two", "time_zone": "Europe/Berlin"}
    response = client.post(reverse("settings", args=[acme.public_id]), form)
    assert response.status_code == 302
    acme.refresh_from_db()
    assert (acme.name, acme.time_zone, acme.next_time_zone) == ("Acme Two", "UTC", "Europe/Berlin")


def test_a_viewer_cannot_change_settings(acme, make_user, now):
    accounts.open(organization=acme, now=now)
    viewer = make_user("viewer@acme.example")
    join(acme, viewer, Membership.Role.VIEWER)
    client = Client()
    client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    response = client.post(reverse("settings", args=[acme.public_id]), {"name": "Mine"})
    assert response.status_code == 403
    acme.refresh_from_db()
    assert acme.name == "Acme Robotics"


def test_f27_a_double_submit_opens_one_organization(client, alice, monkeypatch):
    world.load_prices()
    monkeypatch.setattr("billing_portal.portal.tasks.subscribe.apply_async", lambda arguments, **_: None)
    page = client.get(reverse("organization_new")).content.decode()
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert token
    form = {"name": "Twice Inc", "currency": "USD", "time_zone": "UTC", "token": token[1]}
    assert client.post(reverse("organization_new"), form).url == client.post(reverse("organization_new"), form).url
    organization = Organization.objects.get(name="Twice Inc")
    assert Account.objects.filter(organization=organization).count() == 1
    assert organization.grants.count() == 1


def test_f41_a_currency_without_prices_is_refused(alice, now):
    world.load_prices()
    with pytest.raises(onboarding.CurrencyUnpriced):
        onboarding.open_organization(user=alice, name="Yen", currency="JPY", time_zone="UTC", now=now)
    assert not Organization.objects.filter(name="Yen").exists()
