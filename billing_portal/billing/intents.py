"""Writes to Stripe that survive a lost answer: recorded and committed, sent with their own key, their result recorded.

A reference names one write of ours for ever. Whoever needs the write performs it again, as often as needed: it is done
once. Its idempotency key never changes while the outcome is open, so that Stripe answers a repetition with the first
result (F14, F17). Stripe forgets keys after a day; from 23 hours on the effect is looked up before anything is sent.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db.models import F

from accounts.models import Organization
from billing_portal.billing import gateway
from billing_portal.billing.models import Intent

log = structlog.get_logger(__name__)

# Stripe keeps idempotency keys for at least 24 hours.
KEY_LIFE = timedelta(hours=23)
ATTEMPTS_UNDER_RATE_LIMIT = 4
FIRST_PAUSE_SECONDS = 0.1

Call = Callable[[Mapping[str, Any], str], gateway.Object]
LookUp = Callable[[], gateway.Object | None]


class ReferenceReused(Exception):
    """The reference names another write."""

    def __init__(self, intent: Intent) -> None:
        super().__init__(f"{intent.reference} is a {intent.verb} with other parameters.")
        self.intent = intent


class OutcomeUnknown(Exception):
    """Whether Stripe acted on the write can no longer be told by its key, and nobody said how to look it up."""

    def __init__(self, intent: Intent) -> None:
        super().__init__(f"The outcome of {intent.verb} {intent.reference} is unknown.")
        self.intent = intent


def perform(
    *,
    organization: Organization | None,
    verb: str,
    reference: str,
    params: Mapping[str, Any],
    call: Call,
    now: datetime,
    look_up: LookUp | None = None,
    again: bool = False,
) -> str:
    """Do one write at Stripe once, and return the id of the object it made or changed.

    `call` takes the parameters and the idempotency key: `partial(gateway.create, "customers")`. `look_up` returns the
    object if the write had its effect; it is asked when the key no longer tells. `again` tries what Stripe refused once
    more, with these parameters and under a fresh key: a refusal has no effect.

    Raises gateway.Unavailable and RateLimited (perform it again later), gateway.Refused (also for what was refused
    before), ReferenceReused, OutcomeUnknown, gateway.InsideTransaction.
    """
    gateway.refuse_inside_transaction()
    intent = _record(organization, verb, reference, params, now, may_differ=again)
    if intent.state == Intent.State.FAILED and not again:
        raise refusal(intent)
    if intent.state == Intent.State.DONE:
        return intent.stripe_id
    if intent.attempts and now - intent.created_at >= KEY_LIFE:
        found = _looked_up(intent, look_up)
        if found is not None:
            return _done(intent, found, now)
    return _send(intent, call, look_up, now)


def refusal(intent: Intent) -> gateway.Refused:
    """Return the refusal that a failed intent keeps, as the gateway raised it."""
    kept = dict(intent.error or {})
    error = gateway.NotFound if kept.get("status") == 404 else gateway.Refused
    return error(**kept)


def recorded_params(reference: str) -> dict[str, Any] | None:
    """Return what an open or finished write of this reference was sent with; None if there is none to stand by.

    For writes whose parameters follow the moment: a repetition must send what was sent first.
    """
    kept = Intent.objects.filter(reference=reference).exclude(state=Intent.State.FAILED)
    return kept.values_list("params", flat=True).first()


def _record(
    organization: Organization | None,
    verb: str,
    reference: str,
    params: Mapping[str, Any],
    now: datetime,
    *,
    may_differ: bool,
) -> Intent:
    """Return the intent of a reference, committed before anything is sent."""
    plain = json.loads(json.dumps(params))
    intent, is_new = Intent.objects.get_or_create(
        reference=reference,
        defaults={
            "organization": organization,
            "verb": verb,
            "idempotency_key": str(uuid.uuid4()),
            "params": plain,
            "created_at": now,
        },
    )
    if intent.state == Intent.State.FAILED and may_differ:
        _renew(intent, plain, now)
    is_same = intent.verb == verb and intent.params == plain and intent.organization == organization
    if not is_new and not is_same:
        raise ReferenceReused(intent)
    return intent


def _renew(intent: Intent, params: Mapping[str, Any], now: datetime) -> None:
    """Open a refused intent again, under a fresh key; of two who try it at once, the second joins the first."""
    Intent.objects.filter(pk=intent.pk, state=Intent.State.FAILED).update(
        state=Intent.State.PENDING,
        params=params,
        idempotency_key=str(uuid.uuid4()),
        attempts=0,
        error=None,
        created_at=now,
        finished_at=None,
    )
    intent.refresh_from_db()


def _send(intent: Intent, call: Call, look_up: LookUp | None, now: datetime) -> str:
    Intent.objects.filter(pk=intent.pk).update(attempts=F("attempts") + 1)
    try:
        answer = _patiently(call, intent)
    except gateway.Unavailable as error:
        # A stored 5xx comes back for as long as Stripe knows the key: only a look tells more (F19).
        found = look_up() if error.is_replayed and look_up else None
        log.warning("stripe write unanswered", intent_id=intent.pk, verb=intent.verb, is_found=found is not None)
        if found is None:
            raise
        answer = found
    except gateway.Refused as error:
        pending = Intent.objects.filter(pk=intent.pk).exclude(state=Intent.State.DONE)
        pending.update(state=Intent.State.FAILED, error=error.as_json(), finished_at=now)
        log.warning("stripe write refused", intent_id=intent.pk, verb=intent.verb, code=error.code)
        raise
    return _done(intent, answer, now)


def _patiently(call: Call, intent: Intent) -> gateway.Object:
    """Send, backing off with jitter under a rate limit or a lock at Stripe, always with the same key (F18)."""
    for attempt in range(1, ATTEMPTS_UNDER_RATE_LIMIT + 1):
        try:
            return call(intent.params, intent.idempotency_key)
        except gateway.RateLimited:
            if attempt == ATTEMPTS_UNDER_RATE_LIMIT:
                raise
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
    raise AssertionError("unreachable")


def _looked_up(intent: Intent, look_up: LookUp | None) -> gateway.Object | None:
    """Return the effect of a write whose key Stripe may have forgotten; None if it had none, so that it may be sent."""
    if look_up is None:
        Intent.objects.filter(pk=intent.pk).update(state=Intent.State.UNKNOWN)
        raise OutcomeUnknown(intent)
    return look_up()


def _done(intent: Intent, answer: gateway.Object, now: datetime) -> str:
    stripe_id = str(answer.get("id") or "")
    Intent.objects.filter(pk=intent.pk).update(
        state=Intent.State.DONE, stripe_id=stripe_id, error=None, finished_at=now
    )
    log.info("stripe write done", intent_id=intent.pk, verb=intent.verb, stripe_id=stripe_id)
    return stripe_id
