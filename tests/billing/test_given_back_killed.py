"""Credit notes, refunds and chargebacks killed with SIGKILL: what goes back goes back once, here and at Stripe."""

import tomllib
from collections.abc import Callable, Iterator

import pytest

from accounts.models import Letter, Organization
from billing_portal.billing import credit_note_issuing, inbox, purchase_payment
from billing_portal.billing.models import Chargeback, CreditNote, InboxEvent, Invoice, Purchase, Refund
from billing_portal.ledger import settling, verification
from billing_portal.ledger.models import Bucket, BucketClaim, BucketEntry, Entry, Grant
from tests.billing import killing, test_buckets_bought, test_claims
from tests.billing.conftest import MakeBuyer
from tests.billing.killing import of_write
from tests.billing.test_claims import DOLLAR, NOW, balance, payment_of, refund, take_in_events
from tests.billing.world import Buyer, load_prices
from tests.ledger.test_buckets import resolve
from tests.stripe.conftest import RunningSandbox
from tests.usage.outcomes.conftest import DOCUMENT
from usage.outcomes import rules

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


# ── Refunds and chargebacks ───────────────────────────────────────────────────────────────────────────────────────────


def buy_credit(acme: Buyer) -> Invoice:
    test_claims._buy(acme)
    return Invoice.objects.get(organization=acme.organization)


def buy_bucket(acme: Buyer) -> Invoice:
    """Buy a thousand resolutions, of which three are used before the money goes back."""
    load_prices()
    rules.load(tomllib.loads(DOCUMENT.read_text()), now=NOW)
    assert purchase_payment.advance(test_buckets_bought.ask(acme, test_buckets_bought.offer_in_usd()), now=NOW)
    Bucket.objects.update(starts_at=NOW.replace(year=2024))
    resolve(acme.organization, "c_1", "c_2", "c_3", now=NOW)
    settling.settle_all(acme.organization.pk, now=NOW)
    return Invoice.objects.get(organization=acme.organization)


def books(organization: Organization) -> dict[str, object]:
    """Return what the receivers write, without keys."""
    columns = {
        Refund: ("state", "amount_minor"),
        Chargeback: ("state", "amount_minor"),
        Grant: ("remaining_micros",),
        Bucket: ("remaining_units", "claimed_units"),
        BucketClaim: ("claimed_units", "held_units", "owed_units", "changes"),
        BucketEntry: ("kind", "units"),
        Entry: ("transaction__kind", "book", "micros"),
        Letter: ("subject",),
    }
    return {
        model.__name__: list(model.objects.filter(organization=organization).order_by("pk").values_list(*fields))
        for model, fields in columns.items()
    }


def sent_events(type_: str, invoices: list[Invoice]) -> list[int]:
    """Store the one event of each invoice's payment that is of this type, and forget all others; return their ids."""
    inbox.catch_up(NOW)
    InboxEvent.objects.exclude(type=type_).delete()
    told = {each.payload["data"]["object"]["payment_intent"]: each.pk for each in InboxEvent.objects.all()}
    assert len(told) == len(invoices) == InboxEvent.objects.count()
    return [told[payment_of(invoice)] for invoice in invoices]


@pytest.mark.long
@pytest.mark.parametrize("buy", [buy_credit, buy_bucket])
@pytest.mark.parametrize(
    ("card", "type_", "verb"),
    [
        ("pm_card_visa", "refund.created", "receive_refund"),
        ("pm_card_createDispute", "charge.dispute.created", "receive_chargeback"),
    ],
)
def test_f13_f14_i13_i15_money_that_went_back_killed_at_every_lock_write_and_commit(
    buyer: MakeBuyer, victim: killing.Victim, buy: Callable[[Buyer], Invoice], card: str, type_: str, verb: str
) -> None:
    """Nobody lists the places: a rehearsal on another event names them. Until the commit, each kill undoes all."""
    control, acme = buyer("control", card=card, name="Acme"), buyer("acme", card=card)
    invoices = [buy(control), buy(acme)]
    if type_ == "refund.created":
        for invoice in invoices:
            refund(invoice, invoice.total_minor, f"r{invoice.pk}")
    rehearsed, event = sent_events(type_, invoices)
    within = f"billing.claims.{verb}"
    places = victim.rehearse("handle", rehearsed, now=NOW, within=within)
    moved = "ledger_bucket" if buy is buy_bucket else "ledger_grant"
    assert {"after LOCK ledger_account 1", f"after UPDATE {moved} 1", "after UPDATE billing_inboxevent 1"} <= {*places}
    assert places[-2:] == ["before COMMIT 1", "after COMMIT 1"]
    before = books(acme.organization)
    for place in places:
        assert books(acme.organization) == before, place
        victim.kill(place, "handle", event, now=NOW, within=within)
    inbox.handle_waiting(now=NOW)
    assert set(InboxEvent.objects.values_list("state", flat=True)) == {"done"}
    assert books(acme.organization) == books(control.organization) != before
    assert list(verification.verify(acme.organization.pk)) == []
