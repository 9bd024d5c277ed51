"""A web process whose Valkey is stopped under it: what it committed it answers as committed, and at once."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts import api_keys, people
from accounts.models import ApiKey, Organization
from billing_portal.billing.models import InboxEvent
from billing_portal.ledger import settlement
from billing_portal.local import daemons
from billing_portal.local.valkey import Valkey
from tests.billing import world
from tests.billing.test_month_end_killed import database_url
from usage import charges

ROOT = Path(__file__).resolve().parents[2]
WEB = """
import django
django.setup()
import hashlib, hmac, itertools, json, sys, time
from django.test import Client
from accounts.models import User
from billing_portal.portal import onboarding
from tests.billing.world import MIDMONTH

web, numbers, secret = Client(SERVER_NAME="127.0.0.1"), itertools.count(), sys.argv[1]

def sign_up(name):
    alice = User.objects.get(email="alice@acme.example")
    zone = {"currency": "USD", "time_zone": "UTC"}
    return 200 if onboarding.open_organization(user=alice, name=name, now=MIDMONTH, reference=name, **zone) else 500

def post_calls(*references):
    start = 1_760_000_000_000
    calls = [
        {"call_id": f"call_{next(numbers)}", "organization": reference, "call_type": "phone_call",
         "call_status": "ended", "start_timestamp": start, "end_timestamp": start + 60_000, "duration_ms": 60_000,
         "products": ["platform", "elevenlabs_tts", "gpt_4o_mini"]}
        for reference in references
    ]
    return web.post("/api/v1/calls", json.dumps(calls), content_type="application/json",
                    headers={"Authorization": f"Bearer {secret}"}).status_code

def post_event():
    body = json.dumps({"id": f"evt_{next(numbers)}", "object": "event", "type": "customer.updated", "created": 1,
                       "api_version": "2026-05-27.dahlia", "livemode": False,
                       "data": {"object": {"id": "cus_1", "object": "customer"}}}).encode()
    at = int(time.time())
    signature = hmac.new(b"whsec_sandbox", f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return web.post("/stripe/webhooks/", body, content_type="application/json",
                    headers={"Stripe-Signature": f"t={at},v1={signature}"}).status_code

for line in sys.stdin:
    verb, *arguments = line.split()
    began = time.monotonic()
    try:
        status = {"sign_up": sign_up, "post_calls": post_calls, "post_event": post_event}[verb](*arguments)
    except Exception as error:
        status = repr(error)
    print(json.dumps([status, time.monotonic() - began]), flush=True)
"""


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Valkey of the test's own, where 'nobody' can enter."""
    root = Path(tempfile.mkdtemp(prefix="portal-", dir="/var/tmp"))
    root.chmod(0o755)
    own = Valkey(base=root, owner=daemons.Owner.choose(), log=root / "valkey.log")
    yield own
    own.stop()
    shutil.rmtree(root)


@pytest.fixture
def ask(valkey: Valkey, transactional_db: None) -> Iterator[Callable[[str], tuple[Any, float]]]:
    """Return what has a web process do one thing, and tells its status and its seconds."""
    world.load_prices()
    people.admit(email="alice@acme.example", password="correct horse battery", name="Alice")
    write = str(ApiKey.Scope.CALLS_WRITE)
    _, secret = api_keys.issue(organization=None, name="k", scopes=[write], now=world.MIDMONTH)
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "billing_portal.settings",
        "DATABASE_URL": database_url(),
        "BROKER_URL": valkey.start(last_url=None),
        "LOG_LEVEL": "CRITICAL",
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    web = subprocess.Popen([sys.executable, "-c", WEB, secret], cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]

    def ask(what: str) -> tuple[Any, float]:
        web.stdin.write(what + "\n")
        web.stdin.flush()
        status, seconds = json.loads(web.stdout.readline())
        return status, seconds

    yield ask
    web.stdin.close()
    web.wait(timeout=20)
    web.stdout.close()


def test_f20_f22_a_stopped_valkey_fails_no_request_that_committed(
    valkey: Valkey, ask: Callable[[str], tuple[Any, float]]
) -> None:
    assert ask("sign_up acme")[0] == 200
    assert ask("post_calls acme")[0] == 200
    assert ask("post_event")[0] == 200
    assert valkey.stop()
    wanted = ["post_calls acme", "post_event", "sign_up beta", "post_calls acme beta", "post_event"]
    asked = [ask(what) for what in wanted]
    assert [status for status, _ in asked] == [200] * 5
    assert max(seconds for _, seconds in asked) < 3
    assert InboxEvent.objects.filter(state=InboxEvent.State.RECEIVED).count() == 3
    acme, beta = Organization.objects.order_by("reference")
    # What the sweeps do once the broker is back.
    assert set(charges.organizations_waiting(limit=10)) == {acme.pk, beta.pk}
    assert [settlement.settle_all(each.pk, now=world.MIDMONTH) for each in (acme, beta)] == [3, 1]
