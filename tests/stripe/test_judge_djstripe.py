"""Judge: dj-stripe as it is published. It must mirror every object and handle every event the sandbox makes."""

import json
import subprocess
import sys

import pytest

from tests.stripe import scenario
from tests.stripe.conftest import ROOT

KINDS = {
    "account", "balance_transaction", "charge", "checkout.session", "coupon", "customer", "dispute", "invoice",
    "invoiceitem", "mandate", "payment_intent", "payment_method", "price", "product", "promotion_code", "refund",
    "setup_intent", "subscription", "subscription_item", "tax_id", "tax_rate",
}  # fmt: skip


@pytest.fixture(scope="module")
def verdict(stripe_sandbox_process) -> dict:
    """What dj-stripe made of a sandbox that holds one of everything."""
    stripe_sandbox_process.reset()
    scenario.play(stripe_sandbox_process)
    command = [sys.executable, "tests/stripe/mirror_with_djstripe.py", stripe_sandbox_process.url]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=json.dumps(stripe_sandbox_process.dump()),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_djstripe_mirrors_every_object_it_knows(verdict):
    assert verdict["mirror"]["failures"] == []
    assert set(verdict["mirror"]["mirrored"]) == KINDS


def test_djstripe_handles_every_event_it_knows(verdict):
    assert verdict["events"]["failures"] == []
    assert verdict["events"]["handled"] > 100


def test_djstripe_knows_the_name_of_every_event_but_those_of_stripes_own_credits(verdict):
    assert verdict["events"]["unknown"] == ["billing.credit_grant.created"]
