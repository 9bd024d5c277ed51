from datetime import timedelta

import pytest
import time_machine
from celery import current_app
from django.conf import settings

from tests.charged import all_charges, the_charge
from tests.usage.conftest import call_object
from usage import ingestion, prices, tasks
from usage.models import UnratedCall

NEW = "gpt_9"
LONGEST_MS = 31 * 24 * 3600 * 1000


def enter_price(now, *, starts_at, rate="0.6"):
    """Enter a version in which the new model has a price, and every token above one a request lengthens its time."""
    rates = [
        {"product": NEW, "component": "llm", "unit": "minute", "rate": rate},
        {"product": "llm_token_surcharge", "component": "token_surcharge", "unit": "surcharge"},
    ]
    version = {"number": 2, "starts_at": starts_at, "token_threshold": 1, "rates": rates}
    book = {"reference": "parley-usd", "name": "List", "currency": "USD", "default": True, "versions": [version]}
    prices.load({"books": [book]}, now=now)


def test_every_scheduled_task_of_usage_exists():
    names = [entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values()]
    assert {name for name in names if name.startswith("usage.")} <= set(current_app.tasks)


def test_the_task_rates_in_batches_until_nothing_waits(priced, acme, record, now, monkeypatch):
    monkeypatch.setattr(tasks, "_BATCH", 2)
    starts_at = now + timedelta(hours=1)
    record(*[call_object(f"call_{number}", products=[NEW]) for number in range(5)])
    enter_price(now, starts_at=starts_at)
    with time_machine.travel(starts_at, tick=False):
        tasks.rate_unrated()
        tasks.rate_unrated()
    assert not UnratedCall.objects.exists()
    assert len(all_charges()) == 5


@pytest.mark.parametrize("last", ["call_0", "call_9"])
def test_f24_a_waiting_call_that_no_account_can_hold_keeps_no_other_waiting(priced, acme, record, now, last):
    tokens = {"average": 10**9, "num_requests": 1}
    monster = {"duration_ms": LONGEST_MS, "end_timestamp": ..., "llm_token_usage": tokens}
    record(call_object(last, products=[NEW], **monster), call_object("call_5", products=[NEW]))
    later = now + timedelta(hours=1)
    enter_price(now, starts_at=later, rate="100000")
    assert ingestion.rate_unrated(now=later) == 1
    assert the_charge().call.call_id == "call_5"
    assert UnratedCall.objects.get().call_id == last
