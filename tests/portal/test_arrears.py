"""What a customer reads and does when usage stops at what may be owed, and the pages of interim invoices."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from accounts.models import Membership, Organization
from billing_portal.billing import gateway, interim_walk, interims, month_end
from billing_portal.billing.models import InterimInvoice, Invoice
from tests.billing.conftest import limited, sandbox_process, stripe, subscribed  # noqa: F401 - fixtures
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, record_calls, use
from tests.conftest import join
from tests.stripe.conftest import RunningSandbox

Maker = Callable[..., Organization]
LATER = MIDMONTH + timedelta(hours=12)


@pytest.fixture(autouse=True)
def _february(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.clock.now", lambda: LATER)
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)


@pytest.fixture
def client(alice) -> Client:
    client = Client()
    client.force_login(alice, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def near(limited: Maker, alice) -> Organization:  # noqa: F811
    """Alice's organization, which owes about its limit of five dollars, with nothing invoiced yet."""
    acme = limited("acme")
    join(acme, alice, Membership.Role.OWNER)
    use(acme, 12, seed=1)
    return acme


@pytest.fixture
def stopped(stripe: RunningSandbox, near: Organization) -> InterimInvoice:  # noqa: F811
    """An interim invoice that was declined, of an organization that has reached its limit since."""
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    use(near, 6, seed=2)
    return InterimInvoice.objects.select_related("invoice", "organization").get()


def text_of(client: Client, name: str, *names: object) -> str:
    response = client.get(reverse(name, args=names), follow=True)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def form_of(client: Client, name: str, *names: object) -> tuple[str, dict[str, str]]:
    """The address and the hidden fields of the page's form that pays."""
    page = client.get(reverse(name, args=names)).content.decode()
    form = re.search(r'<form method="post" action="([^"]+/pay/)">(.*?)</form>', page, re.DOTALL)
    assert form
    return form[1], dict(re.findall(r'name="(key)" value="([^"]+)"', form[2]))


@pytest.mark.parametrize("page", ["overview", "credits"])
def test_pages_say_what_stops_and_why_and_where_to_pay(client: Client, stopped: InterimInvoice, page: str) -> None:
    text = text_of(client, page, stopped.organization.public_id)
    assert "Usage is stopped" in text
    assert "refused from $5.00 on" in text
    assert f"pay invoice {stopped.invoice.number}" in text
    assert len(re.findall(r"Pay \$\d\.\d\d now", text)) == 1
    assert "is tried again by itself on" in text


def test_usage_returns_with_the_answer_to_the_button(client: Client, stopped: InterimInvoice) -> None:
    acme = stopped.organization
    address, fields = form_of(client, "overview", acme.public_id)
    response = client.post(address, fields, follow=True)
    assert f"Invoice {stopped.invoice.number} is paid." in response.content.decode()
    text = text_of(client, "overview", acme.public_id)
    assert "Usage is stopped" not in text
    assert "is not paid" not in text


def test_f27_the_button_pressed_twice_charges_once(
    client: Client,
    stopped: InterimInvoice,
    stripe: RunningSandbox,  # noqa: F811
) -> None:
    address, fields = form_of(client, "invoice", stopped.organization.public_id, stopped.invoice.public_id)
    for _ in range(2):
        assert client.post(address, fields).status_code == 302
    charges = stripe.dump()["objects"]["charge"]
    assert [charge["status"] for charge in charges].count("succeeded") == 1


def test_a_refused_card_is_said_with_what_else_to_do(
    client: Client,
    stopped: InterimInvoice,
    stripe: RunningSandbox,  # noqa: F811
) -> None:
    address, fields = form_of(client, "overview", stopped.organization.public_id)
    stripe.faults(decline_next={"code": "expired_card", "count": 1})
    text = client.post(address, fields, follow=True).content.decode()
    assert "The card was not charged. What the bank said stands below." in text
    assert "The card has expired." in text
    assert "Enter the new card." in text
    assert "Payment of invoice" in text
    assert "its page at Stripe" in text


def test_without_stripes_answer_nobody_claims_anything(
    client: Client,
    stopped: InterimInvoice,
    stripe: RunningSandbox,  # noqa: F811
) -> None:
    address, fields = form_of(client, "overview", stopped.organization.public_id)
    stripe.faults(fail_next={"status": 500, "path": "/pay", "count": 1})
    assert "trying again is safe" in client.post(address, fields, follow=True).content.decode()
    assert "is paid" in client.post(address, fields, follow=True).content.decode()


def test_a_viewer_sees_it_and_cannot_pay(stopped: InterimInvoice, make_user) -> None:
    join(stopped.organization, make_user("viewer@acme.example"), Membership.Role.VIEWER)
    viewer = Client()
    viewer.force_login(
        stopped.organization.memberships.get(role="viewer").user,
        backend="django.contrib.auth.backends.ModelBackend",
    )
    text = text_of(viewer, "overview", stopped.organization.public_id)
    assert "Usage is stopped" in text
    assert "Pay $" not in text
    address = reverse("invoice_pay", args=[stopped.organization.public_id, stopped.invoice.public_id])
    assert viewer.post(address).status_code == 403


def test_while_it_is_charged_the_page_says_so(client: Client, near: Organization) -> None:
    use(near, 6, seed=2)
    assert "An invoice for it is made within a minute" in text_of(client, "overview", near.public_id)
    interims.write_if_due(near.pk, now=LATER)
    assert "An invoice for it is being charged just now" in text_of(client, "overview", near.public_id)
    InterimInvoice.objects.update(waiting_for="Stripe cannot be reached.")
    assert "cannot be finished yet: Stripe cannot be reached." in text_of(client, "overview", near.public_id)


def test_an_unpaid_invoice_is_warned_of_before_usage_stops(
    client: Client,
    near: Organization,
    stripe: RunningSandbox,  # noqa: F811
) -> None:
    stripe.faults(decline_next={"code": "insufficient_funds", "count": 1})
    interim_walk.advance_waiting(now=LATER)
    text = text_of(client, "overview", near.public_id)
    assert "Usage is stopped" not in text
    assert "is not paid" in text
    assert re.search(r"Usage stops when you owe \$5\.00; you owe \$4\.\d\d now", text)


def test_an_interim_invoice_and_its_month_name_each_other(
    client: Client,
    near: Organization,
    stripe: RunningSandbox,  # noqa: F811
) -> None:
    interim_walk.advance_waiting(now=LATER)
    interim = InterimInvoice.objects.select_related("invoice").get()
    text = text_of(client, "invoice", near.public_id, interim.invoice.public_id)
    assert "February 2027 so far" in text
    assert "This invoice agrees with your call log" in text
    assert "come off that month's invoice, which is made when the month has ended" in text
    assert "of this month are invoiced already" in text_of(client, "overview", near.public_id)
    assert "February 2027 so far" in text_of(client, "invoices", near.public_id)

    stripe.advance_to(CLOSING.timestamp())
    month = invoice_of(near)
    month_end.advance(month, now=CLOSING)
    page = client.get(reverse("invoice", args=[near.public_id, interim.invoice.public_id])).content.decode()
    assert reverse("invoice", args=[near.public_id, month.public_id]) in page
    page = client.get(reverse("invoice", args=[near.public_id, month.public_id])).content.decode()
    assert reverse("invoice", args=[near.public_id, interim.invoice.public_id]) in page
    assert "Already invoiced · Language model" in page
    assert interim.invoice.number in page


def test_a_line_of_an_interim_invoice_opens_the_calls_of_its_settlements_and_no_others(
    client: Client, near: Organization
) -> None:
    interim_walk.advance_waiting(now=LATER)
    interim = InterimInvoice.objects.select_related("invoice").get()
    record_calls(near, 5, starts_at=MIDMONTH, now=LATER, seed=9)
    use(near, 1, seed=10)
    response = client.get(reverse("invoice_line", args=[near.public_id, interim.invoice.public_id, "llm"]))
    assert {each.call_id.rpartition("_")[0] for each in response.context["charges"]} == {"call_1"}
    assert sum(each.micros for each in response.context["charges"]) == response.context["line"].our_quantity


def test_a_void_one_says_so(client: Client, stopped: InterimInvoice) -> None:
    gateway.act("invoices", "void_invoice", stopped.invoice.stripe_invoice_id, {}, "void")
    cache.clear()
    interim_walk.advance_waiting(now=LATER)
    text = text_of(client, "invoice", stopped.organization.public_id, stopped.invoice.public_id)
    assert "This invoice is void" in text
    assert Invoice.objects.get(pk=stopped.invoice.pk).state == Invoice.State.VOID


def test_pages_of_many_interim_invoices_take_few_queries(
    client: Client,
    near: Organization,
    stripe: RunningSandbox,  # noqa: F811
    django_assert_max_num_queries: Callable[..., object],
) -> None:
    interim_walk.advance_waiting(now=LATER)
    for seed in range(2, 6):
        use(near, 14, seed=seed)
        interim_walk.advance_waiting(now=LATER)
    assert InterimInvoice.objects.count() == 5
    stripe.advance_to(CLOSING.timestamp())
    month = invoice_of(near)
    month_end.advance(month, now=CLOSING)
    # Some for each of the five interim invoices: what a month came to when each was made.
    with django_assert_max_num_queries(74):
        client.get(reverse("invoice", args=[near.public_id, month.public_id]))
    with django_assert_max_num_queries(12):
        client.get(reverse("invoices", args=[near.public_id]))
