"""A worker killed with SIGKILL while Stripe answers: the next one ends the month as if nothing had happened."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection

from accounts.models import Organization
from billing_portal.billing import month_end, reconciliation
from billing_portal.billing.models import CreditLine, Invoice
from billing_portal.ledger.models import Transaction
from tests.billing.world import CLOSING, invoice_of
from tests.conftest import only_long
from tests.stripe.conftest import RunningSandbox

ROOT = Path(__file__).resolve().parents[2]
WALK = """
import django
django.setup()
from datetime import datetime
from billing_portal.billing import month_end
month_end.advance_waiting(now=datetime.fromisoformat({now!r}))
"""


def database_url() -> str:
    """Return the address of the tests' database: that of the server, with another name."""
    address = urlsplit(os.environ["DATABASE_URL"])
    return urlunsplit(address._replace(path=f"/{connection.settings_dict['NAME']}"))


def walk_in_another_process(stripe: RunningSandbox) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "STRIPE_API_BASE": stripe.url,
    }
    code = WALK.format(now=CLOSING.isoformat())
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)


def wait_until_taken(stripe: RunningSandbox, worker: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while stripe.control.get("/_sandbox/faults").json()["timeout_next"]["count"]:
        assert worker.poll() is None, "the worker ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)


@pytest.mark.parametrize("path", ["meter_events", "/pay", *only_long("invoiceitems", "finalize")])
def test_f14_killed_between_stripes_effect_and_our_commit(
    stripe: RunningSandbox, used: Callable[..., Organization], path: str
) -> None:
    acme = used("acme", calls=20, credit_micros=500_000)
    invoice = invoice_of(acme)
    stripe.faults(timeout_next={"when": "after", "seconds": 9, "path": path, "count": 1})
    worker = walk_in_another_process(stripe)
    wait_until_taken(stripe, worker)
    worker.kill()
    worker.wait()
    stripe.faults(timeout_next={})
    deadline = time.monotonic() + 30
    while not month_end.advance(invoice, now=CLOSING) and time.monotonic() < deadline:
        time.sleep(0.2)
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert reconciliation.reconcile_invoice(invoice, deep=True).differences == []
    objects = stripe.dump()["objects"]
    assert len(objects["charge"]) == 1
    assert len(objects["invoiceitem"]) == CreditLine.objects.filter(amount_minor__gt=0).count()
    assert Transaction.objects.filter(kind="collect").count() == 1
