"""Staff correct and cancel single calls: seen before, approved above the limit, done once."""

import uuid

import pytest
from django.test import Client, override_settings
from django.urls import reverse

from accounts.models import Organization
from billing_portal.ledger import settlement, verification
from billing_portal.ledger.models import Grant
from billing_portal.support.models import StaffAction
from tests.support.conftest import SETTLED
from tests.support.test_desk import text_of
from tests.support.test_organization_desk import action_of, colleague, send  # noqa: F401 - a fixture
from usage import calls, charges, rollup_upkeep
from usage.models import Call, CallRevision


@pytest.fixture
def dear(furnished: Organization) -> Call:
    """Return the dearest call of the furnished organization."""
    found = Call.objects.filter(organization=furnished, amount_micros__gt=0).order_by("-amount_micros")[0]
    return calls.find(furnished.pk, found.call_id)


def test_the_form_begins_with_what_is_recorded_and_the_preview_says_what_changes(
    desk: Client, furnished: Organization, dear: Call
) -> None:
    form = desk.get(action_of(furnished, "correct_call"), {"call_id": dear.call_id}).content.decode()
    assert f'value="{dear.duration_ms / 1000:.3f}"' in form
    assert ", ".join(dear.mix.products) in form
    preview = send(
        desk, furnished, "correct_call", step="preview", call_id=dear.call_id, seconds="10", products="platform"
    )
    text = text_of(preview)
    assert "Nothing is changed yet" in text
    assert f"Price of {dear.call_id}" in text
    assert "Given back of voice" in text
    assert "Not a byte of them changes" in text
    assert CallRevision.objects.count() == 0


def test_a_cancelled_call_is_given_back_once_however_often_the_form_is_sent(
    desk: Client, furnished: Organization, dear: Call
) -> None:
    price = charges.of(dear).price_micros
    form = {"call_id": dear.call_id, "revision": "1", "key": str(uuid.uuid4())}
    for _ in range(3):
        answer = send(desk, furnished, "cancel_call", step="confirm", **form)
        assert answer.status_code == 302
    made = CallRevision.objects.get()
    assert (made.origin, made.reason, made.given_back_micros) == ("staff", "Outage on 12 October", price)
    settlement.settle_all(furnished.pk, now=SETTLED)
    grant = Grant.objects.get(kind="correction")
    assert grant.amount_micros == price
    assert grant.reason == f"Call {dear.call_id}, revision 2 instead of 1: Outage on 12 October"
    assert calls.find(furnished.pk, dear.call_id).kind.status == "cancelled"
    assert rollup_upkeep.verify(furnished.pk) == []
    assert list(verification.verify(furnished.pk)) == []


def test_what_another_corrected_meanwhile_is_refused(desk: Client, furnished: Organization, dear: Call) -> None:
    first = {"call_id": dear.call_id, "revision": "1", "seconds": "10", "products": "platform"}
    send(desk, furnished, "correct_call", step="confirm", **first)
    late = send(desk, furnished, "cancel_call", step="confirm", call_id=dear.call_id, revision="1")
    assert "revision 2 is the newest" in text_of(late)
    assert CallRevision.objects.count() == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"call_id": "no_such_call"}, "has no call with this id"),
        ({"products": "no_such_product"}, "No price covers no_such_product"),
        ({"seconds": "-1"}, "greater than or equal to 0"),
        ({"seconds": "99999999"}, "less than or equal to"),
    ],
)
def test_what_cannot_be_is_said_in_the_form(
    desk: Client, furnished: Organization, dear: Call, fields: dict[str, str], said: str
) -> None:
    form = {"call_id": dear.call_id, "seconds": "10", "products": "platform", **fields}
    answer = send(desk, furnished, "correct_call", step="preview", **form)
    assert said in text_of(answer)
    assert not StaffAction.objects.exists()


@override_settings(STAFF_LIMIT_MICROS={"USD": 1_000})
def test_above_the_limit_a_second_person_approves_first(
    desk: Client,
    colleague: Client,  # noqa: F811
    furnished: Organization,
    dear: Call,
) -> None:
    send(desk, furnished, "cancel_call", step="confirm", call_id=dear.call_id, revision="1")
    action = StaffAction.objects.get()
    assert (action.state, CallRevision.objects.count()) == ("waiting", 0)
    colleague.post(reverse("staff_approve", args=[action.public_id]))
    action.refresh_from_db()
    assert (action.state, CallRevision.objects.count()) == ("done", 1)


def test_the_trace_leads_to_both_and_shows_what_was_done(desk: Client, furnished: Organization, dear: Call) -> None:
    page = desk.get(reverse("staff_trace"), {"id": dear.call_id}).content.decode()
    assert f"{action_of(furnished, 'correct_call')}?call_id={dear.call_id}" in page
    send(desk, furnished, "cancel_call", step="confirm", call_id=dear.call_id, revision="1")
    text = text_of(desk.get(reverse("staff_trace"), {"id": dear.call_id}))
    assert "Revision 2" in text
    assert "Staff: Outage on 12 October" in text
