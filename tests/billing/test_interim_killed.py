"""A worker killed with SIGKILL while Stripe answers: the next one ends what it began, as if nothing had happened."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from accounts.models import Organization
from billing_portal.billing import interim_walk, month_end, reconciliation
from billing_portal.billing.models import InterimInvoice, Invoice, InvoiceLine
from billing_portal.ledger import verification
from billing_portal.ledger.models import Account, Transaction
from tests.billing.test_month_end_killed import ROOT, database_url, wait_until_taken
from tests.billing.world import CLOSING, MIDMONTH, invoice_of, use
from tests.conftest import only_long
from tests.stripe.conftest import RunningSandbox

WALK = """
import django
django.setup()
from datetime import datetime
from billing_portal.billing import {walk}
{walk}.advance_waiting(now=datetime.fromisoformat({now!r}))
"""
Kill = Callable[..., None]


@pytest.fixture
def kill_at(stripe: RunningSandbox) -> Iterator[Kill]:
    """Return what lets another process walk, and kills it once Stripe has acted on a path and not answered yet."""

    def kill(walk: str, path: str, *, method: str = "POST", now: str) -> None:
        stripe.faults(timeout_next={"when": "after", "seconds": 9, "method": method, "path": path, "count": 1})
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "STRIPE_API_BASE": stripe.url,
        }
        code = WALK.format(walk=walk, now=now)
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        wait_until_taken(stripe, worker)
        worker.kill()
        worker.wait()
        stripe.faults(timeout_next={})

    yield kill
    stripe.faults(timeout_next={})


@pytest.fixture
def near(limited: Callable[..., Organization], monkeypatch: pytest.MonkeyPatch) -> Organization:
    """A customer that owes about the limit, with nothing queued."""
    monkeypatch.setattr("accounts.queueing.send", lambda *_, **__: False)
    acme = limited("acme")
    use(acme, 12, seed=1)
    return acme


def walk_until(is_over: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not is_over():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def assert_it_ended_as_if_nothing_had_happened(stripe: RunningSandbox, acme: Organization) -> None:
    interim = InterimInvoice.objects.get()
    assert interim.state == InterimInvoice.State.PAID
    assert Account.objects.get(organization=acme).accrued_micros == 0
    for each in Invoice.objects.all():
        assert reconciliation.reconcile_invoice(each, deep=True).differences == []
    assert list(verification.verify(acme.pk)) == []
    objects = stripe.dump()["objects"]
    assert len(objects["charge"]) == Transaction.objects.filter(kind="collect").count() == 1
    own = InvoiceLine.objects.exclude(kind=InvoiceLine.Kind.USAGE).exclude(amount_minor=0)
    assert len(objects["invoiceitem"]) == own.count()


@pytest.mark.parametrize("path", ["/v1/invoices", "/pay", *only_long("invoiceitems", "finalize")])
def test_f14_killed_between_stripes_effect_and_our_commit(
    stripe: RunningSandbox, near: Organization, kill_at: Kill, path: str
) -> None:
    kill_at("interim_walk", path, now=MIDMONTH.isoformat())
    walk_until(lambda: interim_walk.advance_waiting(now=MIDMONTH))
    assert len(stripe.dump()["objects"]["invoice"]) == 1
    assert_it_ended_as_if_nothing_had_happened(stripe, near)


@pytest.mark.parametrize("path", ["/v1/invoices", *only_long("invoiceitems")])
def test_f14_killed_while_the_month_ends_over_an_interim_invoice(
    stripe: RunningSandbox, near: Organization, kill_at: Kill, path: str
) -> None:
    if path == "invoiceitems":
        # The items of the month are then those that take it off.
        interim_walk.advance_waiting(now=MIDMONTH)
    else:
        # The month's walk drafts the interim invoice that was only written.
        interim_walk.interims.write_if_due(near.pk, now=MIDMONTH)
    stripe.advance_to(CLOSING.timestamp())
    month = invoice_of(near)
    month_end._hold(month)  # so that the first write is the one at which it dies
    kill_at("month_end", path, now=CLOSING.isoformat())
    walk_until(lambda: month_end.advance(month, now=CLOSING))
    month.refresh_from_db()
    assert (month.state, month.total_minor) == (Invoice.State.PAID, 0)
    assert len(stripe.dump()["objects"]["invoice"]) == 2
    assert_it_ended_as_if_nothing_had_happened(stripe, near)
