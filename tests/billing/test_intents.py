"""Intents: a write is done once, whatever happens to its answer."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings

from accounts.models import Organization
from billing_portal.billing import gateway, intents
from billing_portal.billing.models import Intent
from tests.billing.world import MIDMONTH
from tests.stripe.conftest import ROOT, RunningSandbox

PARAMS = {"name": "Acme", "metadata": {"n": "1"}}
# Dies between Stripe's answer and our commit.
KILLED = """
import os, signal, sys, django
django.setup()
from datetime import datetime
from billing_portal.billing import gateway, intents

def call(params, key):
    gateway.create("customers", params, key)
    os.kill(os.getpid(), signal.SIGKILL)

intents.perform(organization=None, verb="customers.create", reference="killed", params={"name": "Acme"}, call=call,
                now=datetime.fromisoformat(sys.argv[1]))
"""


def perform(**changes: Any) -> str:
    arguments: dict[str, Any] = {
        "organization": None,
        "verb": "customers.create",
        "reference": "customer:1",
        "params": PARAMS,
        "call": partial(gateway.create, "customers"),
        "now": MIDMONTH,
    }
    return intents.perform(**arguments | changes)


def customers_at_stripe() -> list[str]:
    return [customer["id"] for customer in gateway.list_all("customers")]


def find() -> gateway.Object | None:
    return next(gateway.list_all("customers"), None)


def never(params: Any, key: str) -> gateway.Object:
    raise AssertionError("Stripe must not be called")


def test_a_write_is_done_once_however_often_it_is_performed(stripe: RunningSandbox, acme: Organization) -> None:
    done = perform(organization=acme)
    assert perform(organization=acme, call=never) == done
    assert customers_at_stripe() == [done]
    intent = Intent.objects.get()
    assert (intent.state, intent.stripe_id, intent.attempts) == ("done", done, 1)
    assert intent.finished_at == MIDMONTH


def test_a_reference_names_one_write(stripe: RunningSandbox, acme: Organization) -> None:
    perform()
    for changes in ({"params": {"name": "Other"}}, {"verb": "customers.update"}, {"organization": acme}):
        with pytest.raises(intents.ReferenceReused):
            perform(**changes)


def test_the_intent_is_committed_before_the_call(stripe: RunningSandbox) -> None:
    def call(params: Any, key: str) -> gateway.Object:
        assert not connection.in_atomic_block
        intent = Intent.objects.get()
        assert (intent.state, intent.attempts, intent.idempotency_key) == ("pending", 1, key)
        return {"id": "cus_1"}

    assert perform(call=call) == "cus_1"


def test_nothing_is_recorded_inside_a_transaction(acme: Organization) -> None:
    with pytest.raises(gateway.InsideTransaction):
        perform()
    assert not Intent.objects.exists()


def test_f14_a_kill_between_stripes_answer_and_our_commit_repeats_the_same_key(stripe: RunningSandbox) -> None:
    settings = connection.settings_dict
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        "DATABASE_URL": os.environ["DATABASE_URL"].replace("/portal?", f"/{settings['NAME']}?"),
        "STRIPE_API_BASE": stripe.url,
    }
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, MIDMONTH.isoformat()], cwd=ROOT, env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    pending = Intent.objects.get()
    assert (pending.state, pending.attempts, len(customers_at_stripe())) == ("pending", 1, 1)
    assert [perform(reference="killed", params={"name": "Acme"})] == customers_at_stripe()
    assert Intent.objects.get().idempotency_key == pending.idempotency_key


def test_f17_a_timeout_after_the_effect_stays_pending_and_the_same_key_finds_it(stripe: RunningSandbox) -> None:
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 3, "method": "POST"})
    with override_settings(STRIPE_TIMEOUT_SECONDS=0.3), pytest.raises(gateway.Unavailable):
        perform()
    pending = Intent.objects.get()
    assert pending.state == Intent.State.PENDING
    assert [perform()] == customers_at_stripe()
    done = Intent.objects.get()
    assert (done.state, done.attempts, done.idempotency_key) == ("done", 2, pending.idempotency_key)


def test_f17_after_23_hours_the_effect_is_looked_up_instead(stripe: RunningSandbox) -> None:
    stripe.faults(timeout_next={"count": 1, "when": "after", "seconds": 3, "method": "POST"})
    with override_settings(STRIPE_TIMEOUT_SECONDS=0.3), pytest.raises(gateway.Unavailable):
        perform()
    late = MIDMONTH + intents.KEY_LIFE
    assert [perform(call=never, look_up=find, now=late)] == customers_at_stripe()


def test_f17_what_cannot_be_looked_up_is_unknown_and_never_sent_again(stripe: RunningSandbox) -> None:
    stripe.faults(fail_next={"count": 1, "status": 503})
    with pytest.raises(gateway.Unavailable):
        perform()
    for _ in range(2):
        with pytest.raises(intents.OutcomeUnknown):
            perform(call=never, now=MIDMONTH + intents.KEY_LIFE)
    assert Intent.objects.get().state == Intent.State.UNKNOWN


def test_f17_what_is_looked_up_and_not_there_is_sent_with_the_same_key(stripe: RunningSandbox) -> None:
    stripe.faults(fail_next={"count": 1, "status": 503})
    with pytest.raises(gateway.Unavailable):
        perform()
    key = Intent.objects.get().idempotency_key
    assert [perform(look_up=find, now=MIDMONTH + timedelta(days=2))] == customers_at_stripe()
    assert Intent.objects.get().idempotency_key == key


def test_an_intent_never_sent_is_sent_at_any_age(stripe: RunningSandbox) -> None:
    Intent.objects.create(
        verb="customers.create", reference="customer:1", idempotency_key="k", params=PARAMS, created_at=MIDMONTH
    )
    assert [perform(now=MIDMONTH + timedelta(days=9))] == customers_at_stripe()


def test_f18_a_rate_limit_is_waited_out_with_the_same_key(
    stripe: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intents, "FIRST_PAUSE_SECONDS", 0.001)
    stripe.faults(fail_next={"count": 2, "status": 429})
    assert [perform()] == customers_at_stripe()


def test_f18_a_lasting_rate_limit_leaves_the_write_pending(
    stripe: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intents, "FIRST_PAUSE_SECONDS", 0.001)
    stripe.faults(fail_next={"count": 99, "status": 429, "method": "POST"})
    with pytest.raises(gateway.RateLimited):
        perform()
    assert Intent.objects.get().state == Intent.State.PENDING


@pytest.mark.parametrize("effect", [None, {"id": "cus_found"}])
def test_f19_a_replayed_server_error_is_looked_up(transactional_db: None, effect: gateway.Object | None) -> None:
    def replay(params: Any, key: str) -> gateway.Object:
        raise gateway.Unavailable("Stored error", is_replayed=True)

    if effect:
        assert perform(call=replay, look_up=lambda: effect) == "cus_found"
    else:
        with pytest.raises(gateway.Unavailable):
            perform(call=replay, look_up=lambda: effect)
        assert Intent.objects.get().state == Intent.State.PENDING


def test_a_refusal_is_kept_and_not_sent_again(stripe: RunningSandbox) -> None:
    wrong = {"nmae": "Acme"}
    with pytest.raises(gateway.Refused) as first:
        perform(params=wrong)
    with pytest.raises(gateway.Refused) as second:
        perform(params=wrong, call=never)
    assert vars(first.value) == vars(second.value)
    assert Intent.objects.get().state == Intent.State.FAILED


def test_a_refusal_may_be_tried_again_under_a_fresh_key_with_other_parameters(stripe: RunningSandbox) -> None:
    with pytest.raises(gateway.Refused):
        perform(params={"nmae": "Acme"})
    refused = Intent.objects.get()
    assert [perform(again=True)] == customers_at_stripe()
    done = Intent.objects.get()
    assert (done.state, done.params, done.error) == ("done", PARAMS, None)
    assert done.idempotency_key != refused.idempotency_key


def test_many_at_once_have_one_effect(stripe: RunningSandbox) -> None:
    def race(_: int) -> str:
        try:
            return perform()
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert [*set(pool.map(race, range(6)))] == customers_at_stripe()
