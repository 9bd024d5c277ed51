"""What the amount due is for, on the page and as files."""

import csv

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.billing import amounts_due
from tests.billing.test_amounts_due import _no_settling_behind_the_back, billed, used  # noqa: F401 - fixtures
from tests.portal.test_pages import text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def customer(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def rows_of(answer):
    return list(csv.DictReader(b"".join(answer.streaming_content).decode().splitlines()))


def test_each_view_and_each_file_comes_to_the_amount_due(customer, used, now):  # noqa: F811
    invoice = billed(used, now, off={"voice": 7}, tax=23, discount=11)
    assert "What it is for" in text_of(customer.get(reverse("invoice", args=[used.public_id, invoice.public_id])))
    here = reverse("amount_due", args=[used.public_id, invoice.public_id])
    for by in ("agent", "model", "day"):
        page = customer.get(here, {"by": by})
        assert sum(row.due_minor for row in page.context["rows"]) == invoice.amount_due_minor
        assert f"Amount due by {by}" in text_of(page)
        rows = rows_of(customer.get(f"{here}csv/", {"by": by}))
        assert sum(int(row["amount_due_minor"]) for row in rows) == invoice.amount_due_minor
    calls = rows_of(customer.get(f"{here}csv/", {"by": "call"}))
    assert len(calls) == 30
    assert sum(int(row["amount_due_micros"]) for row in calls) == invoice.amount_due_minor * 10_000
    for unknown in ({"by": "mood"}, {"by": "metadata", "key": "unchosen"}):
        assert customer.get(here, unknown).status_code == 404


def test_a_large_invoice_is_computed_in_the_background(customer, used, now, monkeypatch):  # noqa: F811
    asked = []
    monkeypatch.setattr("billing_portal.billing.amounts_due.AT_ONCE", 0)
    monkeypatch.setattr("billing_portal.billing.amounts_due_tasks.ask_to_compute", lambda *args: asked.append(args))
    invoice = billed(used, now)
    here = reverse("amount_due", args=[used.public_id, invoice.public_id])
    assert "Being computed" in text_of(customer.get(here))
    assert asked == [(invoice, "agent", "")]
    assert customer.get(here, headers={"HX-Request": "true"}).status_code == 204
    assert customer.get(f"{here}csv/").status_code == 404
    amounts_due.compute(invoice, amounts_due.Grouping.AGENT, now=now)
    assert "Being computed" not in text_of(customer.get(here))


def test_a_draft_has_no_such_page(customer, used, now):  # noqa: F811
    invoice = billed(used, now, state="draft")
    assert customer.get(reverse("amount_due", args=[used.public_id, invoice.public_id])).status_code == 404
