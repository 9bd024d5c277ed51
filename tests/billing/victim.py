"""A process that is killed at named places, again and again: `python -m tests.billing.victim`.

Django is loaded once. For each line on standard input, {"verb", "id", "now", "place", "within"}, a fork does the verb
until it comes to the place, writes that it is there, and is killed by a real SIGKILL. The answer says how it ended, and
which locks, writes and commits it came by, or what it raised.

A place is "before" or "after": a function ("before billing.purchases.credit"), a stage of a write to Stripe whose
reference begins or ends with what is said ("after :pay:1 _send"), or a statement to the database
("after INSERT ledger_burn 1"). With `within`, a function, statements count from its beginning to the next commit.
"""

import json
import os
import re
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402

from accounts import clock  # noqa: E402
from accounts.models import Organization  # noqa: E402
from billing_portal.billing import (  # noqa: E402
    bucket_renewals,
    credit_note_issuing,
    gateway,
    inbox,
    intents,
    month_end,
    purchase_payment,
    purchases,
    receivers,
    seat_walk,
    top_ups,
)
from billing_portal.billing.models import CreditNote, Invoice, Purchase, SeatMove  # noqa: E402
from billing_portal.ledger import alerts, credits  # noqa: E402
from billing_portal.ledger import tasks as ledger_tasks  # noqa: E402
from billing_portal.ledger.signals import usage_settled  # noqa: E402

# Where Stripe's answer is late, an event is put off and a purchase waits: the place would not be reached.
settings.STRIPE_TIMEOUT_SECONDS = 300


def die(pipe: int) -> None:
    os.write(pipe, b"reached\n")
    os.kill(os.getpid(), signal.SIGKILL)


def set_trap(place: str, pipe: int) -> None:
    """Patch what stands at the place, so that whoever comes there dies before it, or after it is done."""
    when, _, what = place.partition(" ")
    step, _, stage = what.partition(" ")
    if stage:
        module, name = intents, stage
        is_there = lambda *a, **_: _reference(a).startswith(step) or _reference(a).endswith(step)  # noqa: E731
    else:
        module, name = _named(step)
        is_there = lambda *_, **__: True  # noqa: E731
    original: Callable[..., Any] = getattr(module, name)

    def trapped(*arguments: Any, **options: Any) -> Any:
        is_here = is_there(*arguments, **options)
        if is_here and when == "before":
            die(pipe)
        result = original(*arguments, **options)
        if is_here and when == "after":
            die(pipe)
        return result

    setattr(module, name, trapped)


def _named(function: str) -> tuple[Any, str]:
    """Return the module and the name of a function, "billing.purchases.credit"; some go by their name alone."""
    modules: dict[str, Any] = {
        "credit": purchases,
        "ask_for_top_up": purchases,
        "decline": purchases,
        "grant": credits,
        "send_robust": usage_settled,
        "_walk": purchase_payment,
    }
    module, _, name = function.rpartition(".")
    return (import_module(f"billing_portal.{module}") if module else modules[name]), name


_STATEMENTS = [
    ("INSERT", re.compile(r'\bINSERT INTO "?(\w+)')),
    ("LOCK", re.compile(r'\bFROM "?(\w+).*\bFOR (?:NO KEY )?UPDATE\b', re.DOTALL)),
    ("UPDATE", re.compile(r'\bUPDATE "?(\w+)"?(?: AS \w+)?\s+SET\b')),
    ("DELETE", re.compile(r'\bDELETE FROM "?(\w+)')),
]


class Watch:
    """Sees every lock, write and commit go by, tells their names, and dies at the place."""

    def __init__(self, place: str, within: str, pipe: int) -> None:
        self.place, self.pipe, self.is_open = place, pipe, not within
        self.is_bounded = bool(within)
        self.seen: Counter[str] = Counter()
        if within:
            module, name = _named(within)
            verb = getattr(module, name)

            def opened(*arguments: Any, **options: Any) -> Any:
                self.is_open = True
                return verb(*arguments, **options)

            setattr(module, name, opened)
            receivers.RECEIVERS.update({type_: opened for type_, each in receivers.RECEIVERS.items() if each is verb})
        commit = connection._commit
        connection._commit = lambda: self.at("COMMIT", commit)

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        found = [(match.start(), kind, match[1]) for kind, pattern in _STATEMENTS if (match := pattern.search(sql))]
        if not found:
            return execute(sql, params, many, context)
        _, kind, table = min(found)  # of several in one statement, the first gives the name
        return self.at(f"{kind} {table}", lambda: execute(sql, params, many, context))

    def at(self, name: str, go_on: Callable[[], Any]) -> Any:
        if not self.is_open:
            return go_on()
        self.seen[name] += 1
        here = f"{name} {self.seen[name]}"
        os.write(self.pipe, f"{here}\n".encode())
        if self.place == f"before {here}":
            die(self.pipe)
        result = go_on()
        if self.place == f"after {here}":
            die(self.pipe)
        self.is_open = not (self.is_bounded and name == "COMMIT")
        return result


def _reference(arguments: tuple[Any, ...]) -> str:
    """Return the reference of an intent: `_record` is given it third, `_send` and `_done` have the intent."""
    return str(arguments[2]) if isinstance(arguments[2], str) else str(arguments[0].reference)


def do(verb: str, subject: int, now: datetime) -> None:
    verbs: dict[str, Callable[[], object]] = {
        "settle": lambda: ledger_tasks.settle_organization(subject),
        "expire": lambda: credits.expire(subject, now=now),
        "alert": lambda: alerts.check(subject, now=now),
        "end the month": lambda: month_end.advance(Invoice.objects.get(pk=subject), now=now),
        "attach seats": lambda: attach_seats(subject, now),
        "move seats": lambda: seat_walk.advance(SeatMove.objects.get(pk=subject), now=now),
        "issue": lambda: credit_note_issuing.issue(
            CreditNote.objects.select_related("invoice").get(pk=subject), now=now
        ),
        "handle": lambda: inbox.handle(subject, now=now),
    }
    if verb in verbs:
        verbs[verb]()
    else:
        buy(verb, subject, now)


def attach_seats(organization_id: int, now: datetime) -> None:
    organization = Organization.objects.get(pk=organization_id)
    price = next(each for each in gateway.list_all("prices", {}) if each["metadata"].get("for") == "seats")
    seat_walk.attach(organization, stripe_price_id=price["id"], quantity=10, now=now)


def buy(verb: str, subject: int, now: datetime) -> None:
    if verb == "top up":
        purchase = top_ups.check(subject, now=now)
    elif verb == "renew":
        for each in bucket_renewals.buy_due(now=now):
            purchase_payment.advance(each, now=now)
        return
    else:
        purchase = Purchase.objects.select_related("organization").get(pk=subject)
    if purchase is not None:
        purchase_payment.advance(purchase, now=now)


def run(order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        now = datetime.fromisoformat(order["now"])
        clock.now = lambda: now
        step = order["place"].split(" ")[1:2]
        if step and not step[0].isupper():
            set_trap(order["place"], writing)
        try:
            with connection.execute_wrapper(Watch(order["place"], order["within"], writing)):
                do(order["verb"], order["id"], now)
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    return {
        "reached": said[-1:] == ["reached"],
        "ended": os.waitstatus_to_exitcode(status),  # a signal is below zero
        "statements": said,
    }


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()
