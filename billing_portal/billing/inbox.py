"""The webhook inbox: every event is stored once, then handled by a worker, one of a customer at a time.

An event only says that something changed. What it is now is fetched, so that order, age and repetition do not matter.
Handling is: lock the customer, fetch, mirror, receive, done. Whatever fails is tried again later; what fails again and
again is parked for a person, and holds up nobody else (F24).
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from billing_portal.billing import gateway, locks, mirror, receivers
from billing_portal.billing.models import InboxEvent
from billing_portal.ledger import accounts

log = structlog.get_logger(__name__)

State = InboxEvent.State
ATTEMPTS = 8
FIRST_RETRY = timedelta(seconds=15)
LONGEST_RETRY = timedelta(minutes=30)
# Stripe delivers for three days. The hourly sweep reaches back further, the nightly one as far as Stripe's list goes.
SWEEP_REACH = timedelta(days=4)
LONGEST_REACH = timedelta(days=29)
_FORGOTTEN_AT_ONCE = 5_000
_THIN = "v2.core.event"
# A thin event by which Stripe says that usage was not counted: somebody has to see it.
_REFUSED_USAGE = "v1.billing.meter."


class Malformed(ValueError):
    """The body is no event of Stripe's."""


# ── Storing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def record(payload: Any, *, is_swept: bool = False) -> int | None:
    """Store an event; return its row's id, or None if it is known. One statement, no effect beyond it.

    An event that must not be acted on is stored as parked: another API version than ours (unless it is swept from
    Stripe's list, which carries the account's), another mode, another account. Raises Malformed, and
    django.db.DataError for text that PostgreSQL cannot hold.
    """
    event = _read(payload)
    reason = _objection(payload) or ("" if is_swept else _other_version(event))
    event["state"], event["reason"] = (State.PARKED if reason else State.RECEIVED), reason[:300]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO billing_inboxevent (stripe_event_id, type, api_version, livemode, stripe_customer_id, object_id,
                                            payload, state, reason, attempts, occurred_at, received_at)
            VALUES (%(stripe_event_id)s, %(type)s, %(api_version)s, %(livemode)s, %(stripe_customer_id)s,
                    %(object_id)s, %(payload)s::jsonb, %(state)s, %(reason)s, 0, %(occurred_at)s, now())
            ON CONFLICT (stripe_event_id) DO NOTHING RETURNING id
            """,
            {**event, "payload": json.dumps(payload)},
        )
        row = cursor.fetchone()
    if row and reason:
        log.error("event parked", event_id=row[0], type=event["type"], reason=reason)
    return row[0] if row else None


def _read(payload: Any) -> dict[str, Any]:
    """Return an event's columns. Raises Malformed."""
    try:
        is_thin = payload["object"] == _THIN
        named = {"stripe_event_id": payload["id"], "type": payload["type"]}
        if not is_thin and payload["object"] != "event":
            raise Malformed("The body is not an event.")
        subject = (payload.get("related_object") if is_thin else payload["data"]["object"]) or {}
        previous = {} if is_thin else payload["data"].get("previous_attributes") or {}
        event = {
            **named,
            "api_version": payload.get("api_version") or "",
            "livemode": bool(payload.get("livemode")),
            "object_id": subject.get("id") or "",
            "stripe_customer_id": _customer_of(subject, previous),
            "occurred_at": _instant(payload["created"]),
        }
    except (AttributeError, KeyError, LookupError, OSError, OverflowError, TypeError, ValueError) as error:
        raise Malformed("The body is not an event.") from error
    texts = [value for value in event.values() if not isinstance(value, bool | datetime)]
    if not all(isinstance(text, str) and len(text) <= 255 for text in texts) or not all(named.values()):
        raise Malformed("The body is not an event.")
    return event


def _customer_of(subject: dict[str, Any], previous: dict[str, Any]) -> str:
    """Return the Stripe customer an event is about; a detached card names only the one it had."""
    customer = subject["id"] if subject.get("object") == "customer" else subject.get("customer")
    customer = customer or previous.get("customer") or ""
    return customer["id"] if isinstance(customer, dict) else customer


def _instant(created: Any) -> datetime:
    """Return Stripe's time of an event: Unix seconds, or ISO 8601 in a thin one."""
    return datetime.fromisoformat(created) if isinstance(created, str) else datetime.fromtimestamp(created, UTC)


def _objection(payload: dict[str, Any]) -> str:
    """Return why an event must never be acted on; empty if it may (F11)."""
    if bool(payload.get("livemode")) != settings.STRIPE_LIVE_MODE:
        return "It is of the other mode, live or test, than this portal."
    if payload.get("account"):
        return f"It is of another account: {payload['account']}."
    if payload["object"] == _THIN and payload["type"].startswith(_REFUSED_USAGE):
        return "Stripe refused reported usage: look at the meter's errors."
    return ""


def _other_version(event: dict[str, Any]) -> str:
    """Return an objection to an event in the shape of another API version (F10). Thin events have none."""
    version = event["api_version"]
    if version in ("", settings.STRIPE_API_VERSION):
        return ""
    return f"It has API version {version}; this portal speaks {settings.STRIPE_API_VERSION}."


# ── Handling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def waiting(limit: int, now: datetime) -> QuerySet[InboxEvent]:
    """Return the events that are due, oldest first."""
    return _due(now).order_by("id")[:limit]


def handle_waiting(limit: int = 500, *, now: datetime) -> int:
    """Handle what is due; return how many events came to an end."""
    return sum(handle(event_id, now=now) for event_id in waiting(limit, now).values_list("id", flat=True))


def handle(event_id: int, *, now: datetime) -> int:
    """Handle an event, and what else waits for its customer; return how many came to an end.

    Does nothing if another worker is at work for that customer: that one goes on until nothing waits.
    """
    event = InboxEvent.objects.get(pk=event_id)
    if event.state != State.RECEIVED:
        return 0
    ended = 0
    with locks.attempt(f"inbox:{_subject(event)}") as held:
        if held:
            for each in _of_same_subject(event, now):
                ended += _handle_one(each, now)
    return ended


def replay(event: InboxEvent) -> None:
    """Handle an event once more, whatever became of it: the next sweep takes it. Safe at any time."""
    InboxEvent.objects.filter(pk=event.pk).update(
        state=State.RECEIVED, reason="", attempts=0, retry_at=None, finished_at=None
    )
    log.info("event replayed", event_id=event.pk, type=event.type)


def park(event: InboxEvent, *, reason: str, now: datetime) -> bool:
    """Set an event aside for a person, who may replay it; False if it came to its end before."""
    waiting_one = InboxEvent.objects.filter(pk=event.pk, state=State.RECEIVED)
    parked = waiting_one.update(state=State.PARKED, reason=reason[:300], retry_at=None, finished_at=now)
    if parked:
        log.warning("event parked", event_id=event.pk, type=event.type, reason=reason)
    return bool(parked)


def forget(now: datetime) -> int:
    """Delete what was handled and kept long enough; return how many. What is parked or waits is never forgotten.

    Longer than Stripe's list goes back, so that no sweep brings a forgotten event again.
    """
    forgotten = 0
    ended = InboxEvent.objects.filter(
        state__in=[State.DONE, State.IGNORED], finished_at__lt=now - settings.INBOX_EVENTS_KEPT
    )
    while chunk := list(ended.order_by("id").values_list("id", flat=True)[:_FORGOTTEN_AT_ONCE]):
        forgotten += InboxEvent.objects.filter(pk__in=chunk).delete()[0]
    if forgotten:
        log.info("events forgotten", count=forgotten)
    return forgotten


def catch_up(now: datetime, *, reach: timedelta = SWEEP_REACH) -> int:
    """Store every event of Stripe's list that never arrived; return how many (F4). The list goes back 30 days."""
    listed = gateway.list_all("events", {"created": {"gte": int((now - reach).timestamp())}})
    missed = [event_id for event in listed if (event_id := record(event, is_swept=True)) is not None]
    if missed:
        log.warning("events missed", count=len(missed))
    return len(missed)


def _due(now: datetime) -> QuerySet[InboxEvent]:
    is_due = Q(retry_at=None) | Q(retry_at__lte=now)
    return InboxEvent.objects.filter(is_due, state=State.RECEIVED)


def _subject(event: InboxEvent) -> str:
    return event.stripe_customer_id or event.object_id or event.stripe_event_id


def _of_same_subject(event: InboxEvent, now: datetime) -> Iterator[InboxEvent]:
    """Yield what is due of one customer, also what arrives meanwhile; each event once."""
    same = Q(stripe_customer_id=event.stripe_customer_id)
    if not event.stripe_customer_id:
        same &= Q(object_id=event.object_id) if event.object_id else Q(pk=event.pk)
    last_id = 0
    while following := _due(now).filter(same, pk__gt=last_id).order_by("id").first():
        last_id = following.pk
        yield following


def _handle_one(event: InboxEvent, now: datetime) -> bool:
    """Handle one event under its customer's lock; True if it came to an end."""
    try:
        objection = _objection(event.payload)
        if objection:
            _end(event, State.PARKED, now, reason=objection)
        else:
            _act(event, now)
    except Exception as error:  # whatever it is, the others go on
        _postpone(event, error, now)
        return False
    return True


def _act(event: InboxEvent, now: datetime) -> None:
    """Fetch, mirror, follow up, receive. A crash anywhere leaves the event as it was (F13)."""
    receive, follow_up = receivers.RECEIVERS.get(event.type), receivers.FOLLOW_UPS.get(event.type)
    name = "" if event.payload["object"] == _THIN else event.payload["data"]["object"].get("object", "")
    if not (mirror.is_mirrored(name) or name in receivers.UNMIRRORED):
        _end(event, State.IGNORED, now)
        return
    subject = _fetch(name, event.object_id)
    if mirror.is_mirrored(name):
        mirror.copy(subject)
    if follow_up:
        follow_up(subject, now=now)
    with transaction.atomic():
        if receive:
            receive(subject, now=now)
        _end(event, State.DONE, now)


def _fetch(name: str, stripe_id: str) -> gateway.Object:
    """Return the object as it is at Stripe now; one that is gone comes back as deleted."""
    kind = mirror.MIRRORED[name][0] if mirror.is_mirrored(name) else receivers.UNMIRRORED[name]
    try:
        return gateway.retrieve(kind, stripe_id)
    except gateway.NotFound:
        return {"id": stripe_id, "object": name, "deleted": True}


def _end(event: InboxEvent, state: str, now: datetime, *, reason: str = "") -> None:
    InboxEvent.objects.filter(pk=event.pk).update(
        state=state, reason=reason[:300], attempts=event.attempts + 1, retry_at=None, finished_at=now
    )


def _postpone(event: InboxEvent, error: Exception, now: datetime) -> None:
    """Try again later, each time later; park what failed too often.

    Stripe's own trouble parks nothing, nor does a frozen account: both end, and then it goes on.
    """
    attempts = event.attempts + 1
    reason = f"{type(error).__name__}: {error}"[:300]
    will_end = isinstance(error, gateway.Unavailable | gateway.RateLimited | accounts.AccountFrozen)
    if attempts >= ATTEMPTS and not will_end:
        _end(event, State.PARKED, now, reason=reason)
        log.error("event parked", event_id=event.pk, type=event.type, reason=reason)
        return
    wait = min(FIRST_RETRY * 2 ** min(attempts - 1, 10), LONGEST_RETRY)
    retry_at = now + wait * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
    InboxEvent.objects.filter(pk=event.pk).update(attempts=attempts, reason=reason, retry_at=retry_at)
    log.warning("event failed", event_id=event.pk, type=event.type, attempts=attempts, exc_info=not will_end)
