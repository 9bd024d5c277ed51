"""Conversation events posted to the API, on through outcome, burn and report; and the sweep of open conversations."""

import argparse
import multiprocessing
import random
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

import django
import msgspec
from django.db import connection, connections

from accounts import clock
from accounts.models import Organization
from billing_portal.billing import metering
from billing_portal.billing.models import Customer, Report
from billing_portal.ledger import accounts, buckets, credits, settling
from billing_portal.ledger.models import Grant, Settlement
from billing_portal.local.bench import Figure, at_least, at_most, load, portal
from usage import outcomes as package
from usage.models import OutcomeCharge
from usage.outcomes import charging, rules

_RULES = Path(package.__file__).parent.parent / "price_books" / "outcomes.toml"
_YEAR = timedelta(days=365)
_WORKERS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--conversations", type=int, default=20_000, help="that are told of (default: %(default)s)")
    parser.add_argument("--open", type=int, default=1_000_000, help="to be swept (default: %(default)s)")
    parser.add_argument("--organizations", type=int, default=200)


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield events a second from the API to the report, and the seconds of the sweep."""
    organizations = load.organizations(options.organizations)
    rules.load(tomllib.loads(_RULES.read_text()), now=load.MONTH - _YEAR)
    _open_books(organizations)
    events = _events(options.conversations, [each.reference for each in organizations])
    with portal.web() as (port, _):
        secret = load.key()
        over = threading.Event()
        beside = threading.Thread(target=_settle_until, args=(over, [each.pk for each in organizations]))
        started = time.perf_counter()
        beside.start()
        load.post(port, load.bodies(events, 1_000), secret=secret, path="/api/v1/conversations/events")
        posted = time.perf_counter() - started
        over.set()
        beside.join()
        seconds = time.perf_counter() - started
    settled = OutcomeCharge.objects.exclude(sequence=None).count()
    waiting = OutcomeCharge.objects.filter(sequence=None, withdrawn_at=None).count()
    assert not waiting, f"{waiting} outcomes were left unsettled"
    assert not Settlement.objects.filter(reported=None).exists(), "a settlement is in no report"
    yield Figure("events/s through outcome, burn and report", len(events) / seconds, "/s", goal=at_least(2_000))
    yield Figure("  posted alone", len(events) / posted, "/s")
    yield Figure("  outcomes settled", settled, "")
    yield Figure("  reports written", Report.objects.count(), "")
    _leave_open(options.open, organizations)
    due = charging.organizations_due(now=clock.now())
    connections.close_all()
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(_WORKERS, django.setup) as workers:
        workers.map(_sweep, due, chunksize=1)
    yield Figure(f"sweep of {options.open:,} open conversations", time.perf_counter() - started, "s", goal=at_most(60))
    swept = OutcomeCharge.objects.filter(conversation__reference__startswith="open_").count()
    assert swept == options.open, f"{swept} of {options.open} were charged"


def _open_books(organizations: Sequence[Organization]) -> None:
    """Give every second organization a bucket, every third credit, and all a customer at Stripe."""
    for number, organization in enumerate(organizations):
        accounts.open(organization=organization, now=load.MONTH)
        Customer.objects.create(
            organization=organization,
            stripe_customer_id=f"cus_{number}",
            subscribed_at=load.MONTH - timedelta(days=40),
            created_at=load.MONTH,
        )
        if number % 2 == 0:
            terms = buckets.Terms(("resolution",), 100, 80_000_000, load.MONTH, load.MONTH + _YEAR)
            buckets.add(organization.pk, terms, reference="bench", now=load.MONTH)
        if number % 3 == 0:
            credits.grant(
                organization=organization,
                kind=Grant.Kind.PREPAID,
                micros=20_000_000,
                reference="bench",
                now=load.MONTH,
            )


def _events(conversations: int, references: Sequence[str]) -> list[bytes]:
    """Return the events of conversations, mixed: confirmed, assumed, handed on, and some that come back for help."""
    rng = random.Random(1)  # noqa: S311 - a benchmark's data
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(references))))
    told: list[tuple[float, bytes]] = []
    for number in range(conversations):
        (reference,) = rng.choices(references, cum_weights=weights)
        began = rng.random() * 15 * 24
        steps: list[tuple[str, dict[str, Any]]] = [("ai_answered", {"is_greeting": True}), ("ai_answered", {})]
        end = rng.random()
        if end < 0.4:
            steps.append(("customer_replied", {"reply_kind": "affirmative"}))
        elif end < 0.6:
            steps += [("customer_replied", {"reply_kind": "needs_help"}), ("escalated", {})]
        if end < 0.05:
            steps.append(("customer_replied", {"reply_kind": "needs_help"}))
        for place, (kind, fields) in enumerate(steps):
            at = load.MONTH + timedelta(hours=began + place / 10)
            item = {
                "organization": reference,
                "conversation_id": f"c_{number}",
                "event_id": f"e_{number}_{place}",
                "type": kind,
                "occurred_at": at.isoformat(),
                **fields,
            }
            told.append((began + place / 10, msgspec.json.encode(item)))
    return [raw for _, raw in sorted(told)]


def _settle_until(over: threading.Event, organization_ids: Sequence[int]) -> None:
    """Settle and report what waits, as the worker does, until all is told and nothing is left."""
    try:
        last = False
        while not last:
            last = over.is_set()
            for organization_id in sorted(settling.organizations(limit=10_000) | set(organization_ids if last else ())):
                settling.settle_all(organization_id, now=clock.now())
                metering.write_reports(organization_id, now=clock.now())
    finally:
        connections.close_all()


def _sweep(organization_id: int) -> None:
    """Do what a worker does for one organization."""
    while charging.charge_due(organization_id, now=clock.now()):
        pass


def _leave_open(count: int, organizations: Sequence[Organization]) -> None:
    """Make conversations whose assumed resolution is due, shared out among the organizations."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO usage_conversation (organization_id, reference, agent, channel, began_at, last_event_at,
                                            rules_id, outcome, reason, decided_at, due_at, revision)
            SELECT (%(organizations)s::bigint[])[1 + number %% %(shares)s], 'open_' || number, '', 'chat',
                   %(now)s - interval '2 days', %(now)s - interval '2 days', %(rules)s, 'resolution', 'assumed',
                   %(now)s - interval '1 day', %(now)s - interval '1 day', 0
            FROM generate_series(1, %(count)s) AS number""",
            {
                "organizations": [each.pk for each in organizations],
                "shares": len(organizations),
                "count": count,
                "now": clock.now(),
                "rules": rules.current({organizations[0].pk})[organizations[0].pk].public[0].version_id,
            },
        )
        cursor.execute("VACUUM ANALYZE usage_conversation")
