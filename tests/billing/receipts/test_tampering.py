"""What the second format says of an invoice: whatever of it is changed is found, however thoroughly it was forged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from billing_portal.billing import discounts, gateway, month_end, purchase_payment, purchases
from billing_portal.billing.models import Invoice, Purchase
from billing_portal.billing.tax import tax_ids
from tests.billing.receipts.conftest import changed, content, packed, rewritten, verify
from tests.billing.receipts.test_verifying import _hashed_anew, _mutations, _root_and_key, _signed_anew
from tests.billing.tax.places import BERLIN, live
from tests.billing.test_claims import payment_of, take_in_events
from tests.billing.world import CLOSING, MIDMONTH, MONTH, invoice_of, load_prices, save_card, use

pytestmark = pytest.mark.django_db(transaction=True)
TEN = 10_000_000
# What only the document says, and no arithmetic: whoever holds the vendor's key could have made it up, but it stands on
# the invoice at Stripe, too. And terms: a per cent may be so near the true one that it comes to the same cents.
SAID = {"customer", "country", "name", "reason", "region", "percent", "description", "line", "position", "number"}
SAID |= {"finalized_at", "went_back", "invoice", "reference", "at", "tax_minor", "total_minor", "billed", "terms"}


@pytest.fixture
def receipt(stripe, subscribed, make_user, settings, tmp_path: Path) -> Path:
    """A taxed month with a tax id, an order number, two discounts, and credit that was refunded after it was spent."""
    settings.AUTOMATIC_TAX = True
    load_prices()
    acme, olivia = subscribed("acme", card=None), make_user("olivia@acme.example")
    card = save_card(acme, "pm_card_visa", now=MIDMONTH)
    live(acme, BERLIN, now=MIDMONTH, purchase_order="PO-7")
    tax_ids.add(acme, user=olivia, country="DE", type_="eu_vat", value="DE136695976", now=MIDMONTH)
    tax_ids.send_waiting(now=MIDMONTH)
    given = {"organization": acme, "first_month": MONTH, "months": None, "reason": "Partner", "now": MIDMONTH}
    discounts.enter(percent_hundredths=2_000, amount_micros=None, reference="percent", **given)
    discounts.enter(percent_hundredths=None, amount_micros=1_000_000, reference="amount", **given)
    purchase = purchases.ask(
        organization=acme,
        user=olivia,
        micros=TEN,
        currency="USD",
        way=Purchase.Way.CARD,
        key=purchases.next_key(acme),
        payment_method=card,
        now=MIDMONTH,
    )
    purchase_payment.advance(purchase, now=MIDMONTH)
    use(acme, 40, seed=1)
    gateway.create("refunds", {"payment_intent": payment_of(purchase.invoice)}, "refund")
    take_in_events()
    stripe.advance_to(CLOSING.timestamp())
    invoice = invoice_of(acme)
    assert month_end.advance(invoice, now=CLOSING), Invoice.objects.get(pk=invoice.pk).waiting_for
    return packed(invoice, tmp_path / "receipt.zip")


@pytest.mark.parametrize("each", [5, pytest.param(1, marks=pytest.mark.long)])
def test_f38_i18_every_field_of_the_second_format_that_is_falsified_is_found(
    each: int, receipt: Path, tmp_path: Path
) -> None:
    """Of all that is falsified, one in `each`: verifying signatures with whole numbers takes its time."""
    said = verify(receipt)
    assert said.verified, said.text
    root, key = _root_and_key(receipt)
    files = content(receipt)
    (document,) = map(json.loads, files["invoice.jsonl"].splitlines())
    assert json.loads(files["invoice.json"])["format"] == 3
    assert document["customer"]["tax_ids"] == [["eu_vat", "DE136695976"]]
    assert "made out to: Acme Robotics Ltd, Invalidenstraße 1, 10115, Berlin, DE, DE136695976" in said.text
    assert "purchase order: PO-7" in said.text
    assert f"owed again of invoice {document['debts'][0]['number']}, whose payment went back: refund re_" in said.text
    path, tried, by_sums = tmp_path / "changed.zip", 0, 0
    unseen: list[str] = []
    document_files = {name: files[name] for name in ("lines.jsonl", "invoice.jsonl")}
    ledger = {"ledger.jsonl": files["ledger.jsonl"]}
    falsified = [*_mutations(document_files), *_mutations(ledger, of_kind="discount")]
    for name, what, mutant in falsified[::each]:
        flipped = files | mutant
        tried += 1
        assert not verify(rewritten(flipped, path)).verified, f"{name}: {what} was flipped"
        hashed = _hashed_anew(flipped)
        assert not verify(rewritten(hashed, path)).verified, f"{name}: {what} was hashed anew"
        alone = verify(rewritten(_signed_anew(hashed), path))
        if alone.verified:
            unseen += [] if _is_said(what, files) else [what]
            assert not verify(path, "--key", key).verified, f"{name}: {what} was signed by another"
        by_sums += not alone.verified
    assert unseen == [], "no sum shows these"
    assert len(falsified) > 120
    assert by_sums > tried / 2
    assert verify(receipt, "--root", root, "--key", key).verified
    for field, value, found in DEBTS:
        forged = files | {"invoice.jsonl": changed(files["invoice.jsonl"], 0, _with_debt(field, value))}
        verdict = verify(rewritten(_signed_anew(_hashed_anew(forged)), path))
        assert found in verdict.text, (field, verdict.text)


def _is_said(what: str, files: dict[str, bytes]) -> bool:
    """Say whether something only the document says was changed; a quantity is one where it is not of usage."""
    place, _, field = what.partition(" ")
    words = set(field.replace("[", ".").replace(" ", ".").split("."))
    if "quantity" in words:
        name, _, number = place.partition(":")
        return bool(json.loads(files[name].splitlines()[int(number)])["kind"] != "usage")
    return bool(SAID & words)


# F38: what a debt says of itself, and how its being false is seen whoever signed it.
DEBTS = [
    ("owed_micros", TEN + 10_000, "what is owed again of invoice"),
    ("billed_minor", 1, "as it is billed must be"),
    ("amount_minor", 499, "as it is billed must be"),
    ("micros", 1, "and not billed yet must be"),
]


def _with_debt(field: str, value: int) -> Callable[[Any], Any]:
    def falsified(invoice: Any) -> Any:
        invoice["debts"][0][field] = value
        return invoice

    return falsified
