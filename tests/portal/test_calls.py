"""The list of calls as a page: its address says all of it, and what is put away is not silently absent."""

import re
from datetime import timedelta

import msgspec
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing_portal.ledger import accounts, settlement
from tests.billing import world
from tests.portal.test_pages import HTMX, client, get, text_of
from tests.usage.conftest import call_object
from usage import arrivals, calls, ingestion, partitions
from usage.models import Call

__all__ = ["client"]
LATER = timedelta(hours=3)


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now + LATER)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def busy(acme, now):
    """Acme with 60 settled calls of this morning."""
    world.load_prices()
    accounts.open(organization=acme, now=now.replace(day=1))
    world.record_calls(acme, 60, starts_at=now, now=now + LATER)
    settlement.settle_all(acme.pk, now=now + LATER)
    return acme


def shown(response):
    return re.findall(r'usage/calls/(call_\w+)/"', response.content.decode())


@pytest.mark.django_db
def test_the_order_is_the_addresss_on_every_page(client, busy):
    newest = shown(get(client, "calls", busy)), shown(get(client, "calls", busy, sort="newest"))
    assert newest[0] == newest[1]
    oldest = get(client, "calls", busy, sort="oldest")
    assert shown(oldest)[:10] == sorted(shown(oldest), key=lambda name: int(name.rpartition("_")[2]))[:10]
    following = re.search(r'href="([^"]+)"\s+rel="next"', oldest.content.decode())
    second = shown(client.get(following[1].replace("&amp;", "&")))
    assert [*shown(oldest), *second] == [*newest[0], *shown_next(client, busy)][::-1]


@pytest.mark.django_db
def test_the_dearest_and_longest_come_first_unless_there_are_too_many_to_sort(client, busy, monkeypatch):
    for sort, value in (("dearest", "amount_micros"), ("longest", "duration_ms")):
        first = get(client, "calls", busy, sort=sort)
        following = re.search(r'href="([^"]+)"\s+rel="next"', first.content.decode())[1].replace("&amp;", "&")
        found = [*shown(first), *shown(client.get(following))]
        values = dict(Call.objects.values_list("call_id", value))
        assert sorted(found) == sorted(values)
        assert [values[name] for name in found] == sorted(values.values(), reverse=True)
        # A page of another order is none of this one.
        assert shown(client.get(following.replace(f"sort={sort}", "sort=newest"))) == shown(get(client, "calls", busy))
    monkeypatch.setattr(calls, "SORTED", 59)
    refused = get(client, "calls", busy, sort="longest")
    assert "at most 59" in text_of(refused)
    assert shown(refused) == shown(get(client, "calls", busy))


def shown_next(client, busy):
    first = get(client, "calls", busy).content.decode()
    following = re.search(r'href="([^"]+)"\s+rel="next"', first)
    return shown(client.get(following[1].replace("&amp;", "&")))


@pytest.mark.django_db
def test_htmx_pushes_an_address_that_names_what_is_shown_and_nothing_else(client, busy):
    url = reverse("calls", args=[busy.public_id])
    form = {"days": "30d", "from": "2026-09-16", "to": "2026-10-15", "product": "", "status": "ended", "sort": "newest"}
    assert client.get(url, form, **HTMX)["HX-Push-Url"] == f"{url}?days=30d&status=ended"
    assert client.get(url, form | {"from": "2026-10-01"}, **HTMX)["HX-Push-Url"] == (
        f"{url}?from=2026-10-01&to=2026-10-15&status=ended"
    )


@pytest.mark.django_db
def test_filters_by_agent_and_direction_keep_what_they_say(client, busy, now):
    item = call_object("call_out", direction="outbound", agent_id="agent_x", start_timestamp=now.isoformat())
    ingestion.record([msgspec.json.encode(item | {"end_timestamp": now.isoformat()})], now=now)
    assert shown(get(client, "calls", busy, direction="outbound")) == ["call_out"]
    assert shown(get(client, "calls", busy, agent="agent_x")) == ["call_out"]
    assert shown(get(client, "calls", busy, agent="agent_x", direction="inbound")) == []
    page = re.sub(r"\s+", " ", get(client, "calls", busy, agent="nobody").content.decode())
    assert re.search(r'<option value="nobody" selected ?> ?nobody', page)


def news(client, organization, seen, known=None, **query):
    headers = {"if-none-match": f'"{known}"'} if known is not None else {}
    url = reverse("new_calls", args=[organization.public_id])
    return client.get(url, {"seen": seen, **query}, headers=headers)


def record_outbound(now, *names):
    start = (now + timedelta(hours=2)).isoformat()
    item = call_object(direction="outbound", start_timestamp=start, end_timestamp=start)
    ingestion.record([msgspec.json.encode(item | {"call_id": name}) for name in names], now=now + LATER)


@pytest.mark.django_db
def test_an_open_list_is_answered_304_until_a_call_comes_that_it_keeps(client, busy, now):
    page = get(client, "calls", busy).content.decode()
    seen = int(re.search(r"new-calls/\?days=30d&amp;seen=(\d+)", page)[1])
    assert f'"If-None-Match": "\\"{seen}\\""' in page
    assert seen == arrivals.newest(busy.pk)
    silent = news(client, busy, seen, known=seen)
    assert (silent.status_code, silent.content) == (304, b"")
    settlement.settle_all(busy.pk, now=now + LATER)
    assert news(client, busy, seen, known=seen).status_code == 304  # what is settled is not new
    record_outbound(now, "call_out", "call_out_2")
    told = news(client, busy, seen, known=seen)
    assert "2 new calls: show" in text_of(told)
    assert told["ETag"] == f'"{arrivals.newest(busy.pk)}"'
    assert news(client, busy, seen, known=arrivals.newest(busy.pk)).status_code == 304
    assert "new call" not in text_of(news(client, busy, seen, known=seen, direction="inbound"))
    assert "new call" not in text_of(news(client, busy, seen, known=seen, **{"from": "2026-10-01", "to": "2026-10-14"}))
    marked = get(client, "calls", busy, since=seen).content.decode()
    assert marked.count("is-new") == 2
    assert marked.count("autofocus") == 1


@pytest.mark.django_db
def test_asking_whether_anything_is_new_is_one_read_more_than_knowing_who_asks(client, busy):
    seen = arrivals.newest(busy.pk)
    news(client, busy, seen, known=seen)
    with CaptureQueriesContext(connection) as queries:
        news(client, busy, seen, known=seen)
    assert [re.search(r"(usage|accounts|django)_\w+", query["sql"])[0] for query in queries] == [
        "django_session",
        "accounts_user",
        "accounts_membership",
        "usage_callrange",
    ]


@pytest.mark.django_db
def test_a_list_asks_for_news_only_where_they_would_show(client, busy):
    asks = "every 10s"
    assert asks in get(client, "calls", busy).content.decode()
    for query in ({"to": "2026-10-14"}, {"sort": "oldest"}, {"cursor": "x"}, {"live": "off"}):
        assert asks not in get(client, "calls", busy, **query).content.decode()
    assert "Go live" in text_of(get(client, "calls", busy, live="off"))


@pytest.mark.django_db
@pytest.mark.parametrize("seen", ["", "-1", "many", "9" * 30, "\u0663"])
def test_a_strange_place_is_no_news(client, busy, seen):
    assert "new call" not in text_of(news(client, busy, seen))
    assert get(client, "calls", busy, since=seen).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_archived_month_is_named_by_the_list_the_export_and_the_call(client, busy, now):
    world.record_calls(busy, 4, starts_at=now - timedelta(days=50), now=now, seed=9)
    settlement.settle_all(busy.pk, now=now + LATER)
    partitions.archive(now, months_kept=0)
    try:
        days = {"from": "2026-08-01", "to": "2026-10-15"}
        for name in ("calls", "exports"):
            assert "One month of these days is archived August 2026 (4 calls)" in text_of(
                get(client, name, busy, **days)
            )
        assert "archived" not in text_of(get(client, "calls", busy))
        response = get(client, "call", busy, "call_9_1")
        assert response.status_code == 410
        assert "This call is archived" in text_of(response)
        assert get(client, "call", busy, "call_9_77").status_code == 404
    finally:
        world.record_calls(busy, 1, starts_at=now - timedelta(days=49), now=now, seed=10)
