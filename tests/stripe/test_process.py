"""The sandbox as a program: how it starts, what it refuses, what it keeps."""

import subprocess
import sys
import time

import pytest

from tests.stripe.conftest import ROOT, free_port, metered_customer, start, stop


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "billing_portal.sandbox", "--port", str(free_port()), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1"])
def test_it_binds_to_loopback_only(host):
    ended = run("--host", host)
    assert ended.returncode != 0
    assert "loopback" in ended.stderr


def test_it_refuses_to_start_beside_a_live_key():
    ended = run(STRIPE_SECRET_KEY="sk_live_abc")
    assert ended.returncode != 0
    assert "live key" in ended.stderr


def test_state_survives_a_kill(tmp_path):
    state = str(tmp_path / "state.sqlite3")
    process, sandbox = start("--state", state)
    metered = metered_customer(sandbox.client)
    sandbox.advance(3 * 86400)
    sandbox.client.v1.customers.create({"name": "Once"}, {"idempotency_key": "kept"})
    before, then = sandbox.dump()["objects"], sandbox.now()
    process.kill()
    stop(process, sandbox)
    process, sandbox = start("--state", state)
    try:
        assert sandbox.dump()["objects"] == before
        assert sandbox.now() >= then
        assert sandbox.client.v1.customers.create({"name": "Once"}, {"idempotency_key": "kept"}).name == "Once"
        assert sandbox.dump()["objects"] == before
        sandbox.advance_to(metered.period_end + 3601)
        (invoice,) = sandbox.client.v1.invoices.list({"customer": metered.customer.id}).data
        assert invoice.status == "paid"
    finally:
        stop(process, sandbox)


def test_it_starts_in_under_three_seconds_and_at_the_instant_asked_for():
    began = time.monotonic()
    process, sandbox = start("--clock", "2031-01-01T00:00:00Z")
    took = time.monotonic() - began
    assert sandbox.now().year == 2031
    stop(process, sandbox)
    assert took < 3


def test_the_clock_only_moves_forward(stripe_sandbox):
    answer = stripe_sandbox.control.post("/_sandbox/clock", json={"now": "2001-01-01T00:00:00Z"})
    assert answer.status_code == 400


def test_what_falls_due_happens_in_order_and_at_its_own_instant(stripe_sandbox, client, metered):
    stripe_sandbox.advance_to(metered.period_end + 63 * 86400)
    invoices = client.v1.invoices.list({"customer": metered.customer.id}).data[::-1]
    assert len(invoices) == 3
    assert invoices[0].created == metered.period_end
    for invoice in invoices:
        assert invoice.created == invoice.period_end
        assert invoice.status_transitions.finalized_at == invoice.created + 3600
    created = [event["created"] for event in stripe_sandbox.dump()["events"]]
    assert created == sorted(created)


def test_reset_forgets_everything(stripe_sandbox, client, metered):
    stripe_sandbox.advance(86400)
    stripe_sandbox.reset()
    assert stripe_sandbox.dump()["objects"] == {}
    assert stripe_sandbox.control.get("/_sandbox/clock").json()["offset_seconds"] == 0


@pytest.mark.parametrize("host", ["portal.example", "127.0.0.1.evil.example", ""])
def test_a_rebound_name_leads_nowhere(stripe_sandbox, host):
    assert stripe_sandbox.control.get("/_sandbox/clock", headers={"Host": host}).status_code in {400, 403}


def test_a_page_from_elsewhere_cannot_work_the_controls(stripe_sandbox, client):
    client.v1.customers.create()
    for foreign in ("https://evil.example", "null"):
        refused = stripe_sandbox.control.post("/_sandbox/reset", headers={"Origin": foreign})
        assert refused.status_code == 403
    assert len(client.v1.customers.list().data) == 1
    own = {"Origin": "http://localhost:8000"}
    assert stripe_sandbox.control.post("/_sandbox/reset", headers=own).status_code == 200


def test_other_origins_may_read_what_a_publishable_key_opens_and_nothing_else(stripe_sandbox):
    for path, allowed in (("/v1/setup_intents/seti_x", "*"), ("/v1/customers", None), ("/_sandbox/dump", None)):
        answer = stripe_sandbox.control.get(path, headers={"Origin": "http://localhost:8000"})
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed, path
