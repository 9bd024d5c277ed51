"""Disputes on the pages: from “Dispute this” on a call over the thread to what staff decided."""

import pytest
from django.test import Client
from django.urls import reverse

from billing_portal.billing.disputes import cases, subjects
from billing_portal.billing.models import Dispute
from tests.billing.test_disputes import CALL, _no_settling_behind_the_back, line, opened, used  # noqa: F401 - fixtures
from tests.portal.test_pages import text_of
from tests.support.conftest import desk  # noqa: F401 - fixture

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _october(monkeypatch, now):
    monkeypatch.setattr("accounts.clock.now", lambda: now)


@pytest.fixture
def customer(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


def address(name, organization, *parts):
    return reverse(name, args=[organization.public_id, *parts])


def begin(customer, organization, kind="call", reference=CALL):
    return customer.get(address("dispute_new", organization), {"kind": kind, "reference": reference})


def test_from_the_call_to_an_open_dispute(customer, used):  # noqa: F811
    link = f"{address('dispute_new', used)}?kind=call&amp;reference={CALL}"
    assert link in customer.get(address("call", used, CALL)).content.decode()
    form = begin(customer, used).context["form"]
    data = {"reason": "never_happened", "text": "Nobody called.", "amount": form["amount"].value()}
    data["key"] = str(form["key"].value())
    for _ in range(2):
        page = customer.post(f"{address('dispute_new', used)}?kind=call&reference={CALL}", data, follow=True)
    dispute = Dispute.objects.get()
    assert dispute.claimed_micros == dispute.amount_micros
    assert "You get an answer by" in text_of(page)
    assert "Nobody called." in text_of(page)
    assert begin(customer, used).url == address("dispute", used, dispute.public_id)
    assert f"Call {CALL}" in text_of(customer.get(address("disputes", used)))


def test_an_invoice_line_links_to_its_dispute(customer, line):  # noqa: F811
    page = customer.get(address("invoice_line", line.organization, line.invoice.public_id, "voice")).content.decode()
    reference = subjects.line_reference(line.invoice, "voice")
    assert f"kind=invoice_line&amp;reference={line.invoice.public_id}%2Fvoice" in page
    assert "$80.00" in text_of(begin(customer, line.organization, "invoice_line", reference))


def test_a_wrong_amount_is_refused_in_words(customer, used):  # noqa: F811
    url = f"{address('dispute_new', used)}?kind=call&reference={CALL}"
    page = customer.post(url, {"reason": "other", "text": "?", "amount": "999", "key": "nonsense"})
    assert "less than or equal to" in text_of(page)
    assert not Dispute.objects.exists()


def test_those_who_may_not_manage_billing_find_no_link(bob, used, alice, now):  # noqa: F811
    client = Client()
    client.force_login(bob, backend="django.contrib.auth.backends.ModelBackend")
    assert "Dispute this" not in text_of(client.get(address("call", used, CALL)))
    dispute = opened(used, alice, now)
    page = text_of(client.get(address("dispute", used, dispute.public_id)))
    assert "Nobody called." in page
    assert "Withdraw" not in page


def test_staff_answer_and_decide_and_the_customer_reads_it(customer, desk, used, alice, now):  # noqa: F811
    dispute = opened(used, alice, now)
    assert f"Call {CALL}" in text_of(desk.get(reverse("staff_disputes")))
    staff_page = desk.get(reverse("staff_dispute", args=[dispute.public_id]))
    key = staff_page.context["form"]["key"].value()
    answer = {"text": "Which agent?", "key": str(key)}
    desk.post(reverse("staff_dispute_write", args=[dispute.public_id]), answer)
    page = text_of(customer.get(address("dispute", used, dispute.public_id)))
    assert "It is your turn" in page
    assert "Which agent?" in page
    assert "Sam" not in page  # the vendor wrote, not a person
    written = customer.get(address("dispute", used, dispute.public_id)).context["form"]["key"].value()
    customer.post(address("dispute_write", used, dispute.public_id), {"text": "The German one", "key": str(written)})

    action = reverse("staff_action", args=[used.public_id, "grant_dispute"])
    asked = desk.get(f"{action}?dispute={dispute.public_id}&amount=0.05")
    assert asked.context["form"]["amount"].value() == "0.05"
    params = {"dispute": str(dispute.public_id), "amount": "0.05", "reason": "The line was silent"}
    params["key"] = str(asked.context["why"]["key"].value())
    assert "Not a byte of them changes" in text_of(desk.post(action, {**params, "step": "preview"}))
    desk.post(action, {**params, "step": "confirm"})
    page = text_of(customer.get(address("dispute", used, dispute.public_id)))
    assert "$0.05 was given back" in page
    assert "The line was silent" in page
    assert "The German one" in page
    desk_page = text_of(desk.get(reverse("staff_dispute", args=[dispute.public_id])))
    assert "0.05 USD" in desk_page
    assert "The German one" in desk_page


def test_withdrawn_on_the_page(customer, used, alice, now):  # noqa: F811
    dispute = opened(used, alice, now)
    page = customer.post(address("dispute_withdraw", used, dispute.public_id), follow=True)
    assert "You withdrew it" in text_of(page)
    assert cases.of_subject(subjects.find(used, "call", CALL)) is None


def test_without_disputes_the_page_says_where_to_begin(customer, used):  # noqa: F811
    assert "choose “Dispute this”" in text_of(customer.get(address("disputes", used)))
