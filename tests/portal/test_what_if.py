"""What if, on the pages: what may be chosen, the answer in words and figures, progress, and the file."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.ledger import accounts, periods, settlement
from tests.portal.test_pages import text_of
from tests.usage.conftest import priced, record  # noqa: F401 - fixtures
from tests.usage.test_changes import some
from usage.models import WhatIf
from usage.what_if import jobs, rerating
from usage.what_if.choices import Choice

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)
    monkeypatch.setattr("billing_portal.ledger.tasks.ask_to_settle", lambda organization_id: None)


@pytest.fixture
def used(acme, record, priced):  # noqa: F811
    """Acme with calls in August and September, which are over."""
    accounts.open(organization=acme, now=datetime(2026, 8, 1, tzinfo=UTC))
    for month, count in ((8, 30), (9, 40)):
        at = datetime(2026, month, 10, tzinfo=UTC)
        items = some(date(2026, month, 5), count, products=("platform", "elevenlabs_tts", "gpt_4o", "retell_twilio"))
        record(*items, now=at)
        settlement.settle_all(acme.pk, now=at)
        periods.close(acme.pk, date(2026, month, 1), now=at + timedelta(days=25))
    return acme


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def all_large(monkeypatch):
    """No organization has so few calls that somebody may wait for them."""
    monkeypatch.setattr("usage.what_if.jobs.AT_ONCE", 0)


def address(name, organization, *parts):
    return reverse(name, args=[organization.public_id, *parts])


def compute(client, organization, **fields):
    return client.post(address("what_if_new", organization), {"months": "3", **fields}, follow=True)


def test_a_choice_is_answered_in_words_and_to_the_micro(client, used):
    page = compute(client, used, llm="gpt_4o_mini")
    text = text_of(page)
    months = [rerating.month(used.pk, date(2026, month, 1), Choice(llm="gpt_4o_mini")) for month in (8, 9)]
    now, then = (sum(sum(getattr(month, side).values()) for month in months) for side in ("now", "then"))
    assert f"The same calls would have cost ${then / 10**6:.2f}: ${now / 10**6 - then / 10**6:.2f} less" in text
    assert "GPT-4o mini" in text
    assert "August 2026 to September 2026" in text
    assert "70 calls, each rated anew" in text
    assert "Language model" in text
    assert "quality and speed of another model" in text
    shown = page.context["shown"]
    assert shown.total.change_micros == then - now == sum(each.change_micros for each in shown.components)
    assert shown.total.change_micros == sum(each.change_micros for each in shown.months)


def test_only_priced_public_products_are_offered_with_their_rates(client, used):
    text = text_of(client.get(address("what_ifs", used)))
    assert "GPT-5, $0.04 a minute" in text
    assert "List prices (USD), version 1" in text
    assert "same calls, with the same minutes" in text
    page = compute(client, used, llm="gpt_9")
    assert "Select a valid choice" in text_of(page)
    assert not WhatIf.objects.exists()


def test_nothing_chosen_says_so(client, used):
    assert "Choose another plan, model, voice or telephony" in text_of(compute(client, used))


def test_computed_ones_stand_side_by_side_and_can_be_removed(client, used):
    compute(client, used, llm="gpt_4o_mini")
    compute(client, used, voice="deepgram_tts", llm="gpt_5")
    compute(client, used, llm="gpt_4o_mini")
    assert WhatIf.objects.count() == 2
    text = text_of(client.get(address("what_ifs", used)))
    assert "GPT-5, Deepgram" in text
    assert "GPT-4o mini" in text
    gone = WhatIf.objects.get(voice="")
    assert "is removed" in text_of(client.post(address("what_if_remove", used, gone.public_id), follow=True))
    assert list(WhatIf.objects.values_list("llm", flat=True)) == ["gpt_5"]


def test_many_calls_are_computed_in_the_background_with_progress(
    client, used, all_large, django_capture_on_commit_callbacks
):
    page = compute(client, used, llm="gpt_5")  # not committed, so no worker has it
    asked = WhatIf.objects.get()
    assert "Your calls are being rated anew" in text_of(page)
    assert "<progress" in page.content.decode()
    assert 'hx-trigger="every 2s"' in page.content.decode()
    assert "Waiting, 0 of 2" in text_of(client.get(address("what_ifs", used)))
    assert client.get(address("what_if_csv", used, asked.public_id)).status_code == 302
    jobs.run(asked.pk, clock=lambda: asked.asked_at, most_months=1)
    fragment = client.get(address("what_if", used, asked.public_id), headers={"hx-request": "true"}).content.decode()
    assert "<html" not in fragment
    assert "1 of 2" in fragment
    again = client.get(f"{address('what_if', used, asked.public_id)}?done=1", headers={"hx-request": "true"})
    assert (again.status_code, again.content) == (204, b"")
    jobs.run(asked.pk, clock=lambda: asked.asked_at)
    fragment = client.get(address("what_if", used, asked.public_id), headers={"hx-request": "true"}).content.decode()
    assert "would have cost" in fragment
    assert "every 2s" not in fragment


def test_a_worker_takes_it_up(client, used, all_large, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        compute(client, used, llm="gpt_5")
    assert WhatIf.objects.get().state == "ready"


def test_the_file_has_every_month_and_component(client, used):
    compute(client, used, llm="gpt_5")
    found = WhatIf.objects.get()
    response = client.get(address("what_if_csv", used, found.public_id))
    assert response.headers["Content-Disposition"] == 'attachment; filename="acme-what-if-2026-08-2026-09.csv"'
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert {row["month"] for row in rows} == {"2026-08", "2026-09"}
    for side, column in (("now", "as_charged_micros"), ("then", "as_chosen_micros")):
        stored = sum(sum(each[side].values()) for each in found.results)
        assert sum(int(row[column]) for row in rows) == stored


def test_an_organization_without_calls_is_told_what_comes(client, acme, priced):  # noqa: F811
    accounts.open(organization=acme, now=acme.created_at)
    assert "No calls to compare yet" in text_of(client.get(address("what_ifs", acme)))
