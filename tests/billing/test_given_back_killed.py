"""Credit notes killed with SIGKILL: what goes back goes back once, here and at Stripe."""

from collections.abc import Callable, Iterator

import pytest

from billing_portal.billing import credit_note_issuing
from billing_portal.billing.models import CreditNote, Purchase
from billing_portal.ledger import verification
from tests.billing import killing, test_claims
from tests.billing.killing import of_write
from tests.billing.test_claims import DOLLAR, NOW, balance, take_in_events
from tests.stripe.conftest import RunningSandbox

bought = test_claims.bought


@pytest.fixture
def victim(stripe: RunningSandbox) -> Iterator[killing.Victim]:
    with killing.victim(STRIPE_API_BASE=stripe.url) as running:
        yield running


def test_f14_i15_a_credit_note_killed_on_its_way_is_made_and_refunded_once(
    stripe: RunningSandbox, bought: Callable[..., Purchase], victim: killing.Victim
) -> None:
    purchase = bought()
    invoice = purchase.invoice
    assert invoice is not None
    note = test_claims.credit_notes.ask(
        invoice=invoice,
        micros=20 * DOLLAR,
        reason="Bought twice",
        reference="n1",
        cause=CreditNote.Cause.STAFF,
        now=NOW,
    )
    receiving = ["before billing.credit_notes.receive", "before COMMIT 1", "after billing.credit_notes.receive"]
    for place in [*of_write("credit_note:"), *receiving]:
        victim.kill(place, "issue", note.pk, now=NOW)
    credit_note_issuing.issue_waiting(now=NOW)
    take_in_events()
    note.refresh_from_db()
    assert (note.state, note.post_minor, note.refunded_minor, note.due_at) == ("issued", 2_000, 2_000, None)
    objects = stripe.dump()["objects"]
    assert [each["amount"] for each in objects["credit_note"]] == [2_000]
    assert [each["amount"] for each in objects["refund"]] == [2_000]
    assert balance(purchase.organization) == (30 * DOLLAR, 0)
    assert list(verification.verify(purchase.organization_id)) == []
