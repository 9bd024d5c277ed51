"""The list of calls as a page: its address says all of it, and what is put away is not silently absent."""

import re
from datetime import timedelta

import msgspec
import pytest
from django.urls import reverse

from billing_portal.ledger import accounts, settlement
from tests.billing import world
from tests.portal.test_pages import HTMX, client, get, text_of
from tests.usage.conftest import call_object
from usage import ingestion, partitions

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
