"""A world in which months pass: the sandbox and its clock, what is queued, the sweeps that the scheduler runs.

Time moves day by day. A day's webhooks arrive over HTTP at the portal's own address; what they and the domain queue is
done here, one after the other, and then the sweeps run, as beat would have them. So a world is the same for the same
seed, up to the ids that Stripe makes up.

The hourly sweep of Stripe's list of events is left to the last day of each month: it would take in at once what the
mood delays, and leave nothing to be late.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.core.cache import cache
from django.utils import timezone

from accounts import clock
from billing_portal.billing import gateway, tasks
from billing_portal.billing.models import CreditNote, InboxEvent, Intent, Purchase, Report
from billing_portal.billing.receivers import FOLLOW_UPS, RECEIVERS
from billing_portal.ledger import tasks as ledger_tasks
from tests.stripe.conftest import RunningSandbox
from usage import tasks as usage_tasks

Answer = TypeVar("Answer")
_SWEEPS = (
    usage_tasks.charge_outcomes,
    ledger_tasks.settle_waiting,
    tasks.check_top_ups,
    tasks.invoice_arrears,
    tasks.send_reports,
    tasks.handle_waiting_events,
    tasks.advance_invoices,
    tasks.advance_purchases,
    tasks.issue_credit_notes,
    tasks.look_at_claims,
    tasks.pursue_overdue,
)
_ROUNDS = 5


class World:
    """The sandbox beside the portal, and the time that both keep."""

    def __init__(self, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.queued: dict[tuple[str, tuple[Any, ...]], Any] = {}
        monkeypatch.setattr("accounts.queueing.send", self._queue)

    @property
    def now(self) -> datetime:
        return clock.now()

    def listen(self, url: str) -> str:
        """Have webhooks of the types that the portal acts on sent to this address; return what they are signed with."""
        wanted = {"url": f"{url}/stripe/webhooks/", "enabled_events": sorted({*RECEIVERS, *FOLLOW_UPS})}
        return str(self.sandbox.client.v1.webhook_endpoints.create(wanted).secret)

    def pass_time(self, until: datetime) -> None:
        """Let a day or a minute pass for both. Claims in the cache last real seconds, so they are over."""
        cache.clear()
        clock.follow(until - timezone.now())
        if self.sandbox.now() < until:
            self.sandbox.advance_to(until.timestamp())
        clock.follow(self.sandbox.now() - timezone.now())

    def work(self, *, is_patient: bool = True) -> None:
        """Deliver what is due and sweep until nothing waits; the impatient leave what failed until the next day."""
        for _ in range(_ROUNDS if is_patient else 1):
            assert self.sandbox.flush()["undelivered"] == []
            self._drain()
            for sweep in _SWEEPS:
                self._do(sweep)
            self._drain()
            if not self._is_something_left():
                return
            self.pass_time(self.now + timedelta(minutes=2))

    def catch_up(self) -> None:
        """Run the sweep of Stripe's events, and handle what it found."""
        tasks.catch_up_events()
        self.work()

    def _is_something_left(self) -> bool:
        soon = self.now + timedelta(minutes=3)
        return (
            bool(self.queued)
            or InboxEvent.objects.filter(state=InboxEvent.State.RECEIVED).exists()
            or Intent.objects.filter(state=Intent.State.PENDING).exists()
            or Report.objects.filter(state=Report.State.SENDING).exists()
            or Purchase.objects.filter(due_at__lte=soon).exists()
            or CreditNote.objects.filter(due_at__lte=soon).exists()
        )

    def _queue(self, task: Any, *args: Any, countdown: float = 0) -> bool:
        self.queued[task.name, args] = task
        return True

    def _drain(self) -> None:
        while self.queued:
            key = next(iter(self.queued))
            task = self.queued.pop(key)
            self._do(task, *key[1])

    @staticmethod
    def _do(task: Callable[..., None], *args: Any) -> None:
        """Run a task as a worker would: what Stripe leaves without an answer is lost, and a sweep finds it."""
        with suppress(gateway.Unavailable):
            task(*args)


def surely(ask: Callable[[], Answer]) -> Answer:
    """Ask Stripe, as a person at its dashboard or in front of a form would: again until there is an answer."""
    for _ in range(50):
        try:
            return ask()
        except gateway.Unavailable:
            continue
    raise AssertionError("Stripe never answers")
