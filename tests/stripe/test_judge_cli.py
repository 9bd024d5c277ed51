"""Judge: Stripe's own command line. `stripe trigger` drives the sandbox with the fixtures Stripe keeps for its API."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stripe.conftest import ROOT

pytestmark = pytest.mark.xdist_group("stripe-cli")  # one worker installs the program and uses it

VERSION = "1.52.0"
HOME = Path(os.environ.get("LOCAL_DIR") or ROOT / ".local") / "stripe-cli"
SAME_AS = {
    "subscription.payment_failed": "invoice.payment_failed",
    "subscription.payment_succeeded": "invoice.payment_succeeded",
}
EVENTS = [
    "billing_portal.configuration.created",
    "billing_portal.configuration.updated",
    "billing_portal.session.created",
    "charge.captured",
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "checkout.session.completed",
    "checkout.session.expired",
    "coupon.created",
    "coupon.deleted",
    "coupon.updated",
    "credit_note.created",
    "credit_note.updated",
    "credit_note.voided",
    "customer.created",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.deleted",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.sent",
    "invoice.updated",
    "invoice.voided",
    "invoiceitem.created",
    "invoiceitem.deleted",
    "payment_intent.amount_capturable_updated",
    "payment_intent.canceled",
    "payment_intent.created",
    "payment_intent.payment_failed",
    "payment_intent.requires_action",
    "payment_intent.succeeded",
    "payment_method.attached",
    "payment_method.detached",
    "payment_method.updated",
    "price.created",
    "price.updated",
    "product.created",
    "product.deleted",
    "product.updated",
    "setup_intent.canceled",
    "setup_intent.created",
    "setup_intent.requires_action",
    "setup_intent.setup_failed",
    "setup_intent.succeeded",
    "subscription.payment_failed",
    "subscription.payment_succeeded",
    "tax_rate.created",
    "tax_rate.updated",
    "test_helpers.test_clock.advancing",
    "test_helpers.test_clock.created",
]


@pytest.fixture(scope="session")
def stripe_cli() -> Path:
    """The program, installed by npm on first use."""
    program = HOME / "node_modules" / ".bin" / "stripe"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing, and CI has to ask Stripe's own command line")
        pytest.skip("npm is missing: Stripe's own command line cannot be installed")
    # Elsewhere first, so that it is there whole or not at all, whoever else installs it.
    fresh = HOME.with_name(f"{HOME.name}.{os.getpid()}")
    fresh.mkdir(parents=True, exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(fresh), f"@stripe/cli@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"npm cannot install Stripe's command line: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    try:
        fresh.rename(HOME)
    except OSError:  # another one was first, and perhaps uses it already
        shutil.rmtree(fresh)
    return program


@pytest.mark.parametrize("event", EVENTS)
def test_stripe_trigger_finds_the_sandbox_to_be_stripe(stripe_sandbox, stripe_cli, tmp_path, event):
    environment = os.environ | {"STRIPE_CLI_TELEMETRY_OPTOUT": "1", "HOME": str(tmp_path)}
    command = [str(stripe_cli), "trigger", event, "--api-key", "sk_test_1234567890abcdef"]
    done = subprocess.run(
        [*command, "--api-base", stripe_sandbox.url],
        env=environment | {"XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stripe_sandbox.advance(2)
    assert SAME_AS.get(event, event) in stripe_sandbox.event_types()
