"""Single calls corrected by a person: another length, other products, or cancelled."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
import structlog
from django.db import transaction

from accounts.models import Organization
from usage import calls, corrections, prices, recorded, revisions, signals
from usage.call_objects import CANCELLED, CallObject
from usage.corrections import Correction, Origin
from usage.deltas import Delta
from usage.models import Call, CallRevision
from usage.pricing import Payer
from usage.rating import AmountOutOfRange, CallFacts

log = structlog.get_logger(__name__)


class NotAmendable(Exception):
    """The call cannot be corrected so; the message says why."""


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a call should have been: connected milliseconds and products. A cancelled one has neither."""

    duration_ms: int = 0
    products: tuple[str, ...] = ()
    is_cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What an amendment changes: prices in micros, and what of the difference is charged and given back."""

    before_micros: int
    after_micros: int
    delta: Delta


def preview(organization: Organization, call_id: str, wanted: Amendment, *, replaces: int, now: datetime) -> Change:
    """Return what the amendment would change if it were made now. Raises NotAmendable."""
    call = _newest(organization, call_id, replaces)
    asked = _correction(call, wanted, reason="", author_id=None, reference="", replaces=replaces)
    with transaction.atomic():
        catalog = prices.current()
        made = revisions.of(call)
        pinned = catalog.versions[made.pinned_version_id] if made and made.pinned_version_id else None
        try:
            _, rating, missing = corrections.price(asked, pinned, catalog, now)
        except AmountOutOfRange:
            raise NotAmendable("The call would cost more than an account can hold.") from None
        if rating is None:
            raise NotAmendable(f"No price covers {', '.join(missing)}.")
        before = revisions.lock({(organization.pk, call_id)})[organization.pk, call_id].before
    return Change(sum(before.values()), rating.amount_micros, corrections.change(before, rating))


def amend(
    organization: Organization,
    call_id: str,
    wanted: Amendment,
    *,
    replaces: int,
    reason: str,
    author_id: int,
    reference: str,
    now: datetime,
) -> CallRevision:
    """Make the next revision of a call, once per `reference`. Raises NotAmendable.

    Settlement charges and gives back what it changes, as soon as that hears of it.
    """
    known = revisions.all_of(organization.pk, call_id)
    if replaces <= len(known) and known[replaces - 1].digest.bytes == _digest(reference):
        return known[replaces - 1]
    call = _newest(organization, call_id, replaces)
    asked = _correction(call, wanted, reason=reason, author_id=author_id, reference=reference, replaces=replaces)
    with transaction.atomic():
        outcome = corrections.record([asked], catalog=prices.current(), now=now)[0]
        if outcome.status not in {corrections.RECORDED, corrections.DUPLICATE}:
            raise NotAmendable(outcome.reason)
        transaction.on_commit(lambda: signals.calls_recorded.send(sender=None, organization_ids=[organization.pk]))
    log.info("call amended", organization_id=organization.pk, revision=outcome.revision)
    return revisions.all_of(organization.pk, call_id)[replaces - 1]


def _newest(organization: Organization, call_id: str, replaces: int) -> Call:
    call = calls.find(organization.pk, call_id)
    if call is None:
        raise NotAmendable(f"{organization.name} has no call {call_id}, or it is in the archive.")
    if call.revision != replaces:
        raise NotAmendable(
            f"The call has been corrected meanwhile: revision {call.revision} is the newest. Begin anew."
        )
    return call


def _correction(
    call: Call, wanted: Amendment, *, reason: str, author_id: int | None, reference: str, replaces: int
) -> Correction:
    payer = Payer(call.organization_id, call.organization.currency)
    return Correction(0, payer, _amended(call, wanted, reference), replaces, reason, Origin.STAFF, author_id=author_id)


def _amended(call: Call, wanted: Amendment, reference: str) -> CallObject:
    (before,) = recorded.objects([call])
    facts = CallFacts(wanted.duration_ms, tuple(sorted(set(wanted.products))), call.llm_tokens, call.llm_requests)
    ended_at = call.ended_at
    if wanted.duration_ms != call.duration_ms and ended_at is not None:
        ended_at = call.started_at + timedelta(milliseconds=wanted.duration_ms)
    if wanted.is_cancelled:
        facts, ended_at = CallFacts(0, ()), call.ended_at
    return msgspec.structs.replace(
        before,
        facts=facts,
        ended_at=ended_at,
        status=CANCELLED if wanted.is_cancelled else before.status,
        digest=_digest(reference),
    )


def _digest(reference: str) -> bytes:
    """Return what tells one person's correction from another's; its content is no vendor's."""
    return hashlib.sha256(f"amended by {reference}".encode()).digest()[:16]
