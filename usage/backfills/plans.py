"""Backfills as people see them: asked for, let go ahead by somebody else, stopped, and told to the customers."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import connection, transaction
from django.db.models import Sum

from accounts import letters
from accounts.models import Organization, User
from usage import archived, periods, prices
from usage.models import Backfill, BackfillPart, PriceVersion
from usage.snapshots import Snapshot

log = structlog.get_logger(__name__)

LONGEST = timedelta(days=92)
NOTICED_FOR = timedelta(days=60)
MOST_ATTEMPTS = 5

State = Backfill.State


class CannotBe(ValueError):
    """There is nothing to price anew so; the message says why, for staff to read."""


class NotNow(Exception):
    """The backfill is not in a state in which that can be done."""

    def __init__(self, backfill: Backfill) -> None:
        super().__init__(f"It is {backfill.get_state_display().lower()}.")
        self.backfill = backfill


class SamePerson(Exception):
    """Whoever asked for it cannot let it go ahead."""

    def __init__(self) -> None:
        super().__init__("You asked for this yourself: somebody else has to let it go ahead.")


class PricesEdited(Exception):
    """The prices are not those by which it was counted."""

    def __init__(self) -> None:
        super().__init__("The prices were edited since this was counted. Count it again, and look at that.")


@dataclass(frozen=True, slots=True)
class Wish:
    """Which calls get which prices, and why. None for `organizations` means all that the prices' book is for."""

    version: PriceVersion
    starts_on: date
    ends_on: date
    reason: str
    organizations: Collection[Organization] | None = None


def ask(wish: Wish, *, public_id: UUID, by: User, now: datetime) -> Backfill:
    """Have a backfill counted in the background, once per `public_id`; nothing is changed. Raises CannotBe."""
    known = Backfill.objects.filter(public_id=public_id).first()
    if known is not None:
        return known
    try:
        digest = _digest(prices.snapshot(wish.version.pk))
    except KeyError:
        raise CannotBe(f"{wish.version} has no rates yet.") from None
    concerned = _concerned(wish, now)
    with transaction.atomic():
        made, is_new = Backfill.objects.get_or_create(
            public_id=public_id,
            defaults={
                "price_version": wish.version,
                "prices_digest": digest,
                "starts_on": wish.starts_on,
                "ends_on": wish.ends_on,
                "reason": wish.reason,
                "asked_by": by,
                "asked_at": now,
            },
        )
        if is_new:
            BackfillPart.objects.bulk_create(BackfillPart(backfill=made, organization=each) for each in concerned)
            log.info("backfill asked for", backfill_id=made.pk, organizations=len(concerned))
    return made


def start(backfill_id: int, *, by: User, now: datetime) -> Backfill:
    """Let a counted backfill go ahead; doing that again lets it try again what was set aside.

    Its prices are kept from then on. Raises NotNow, SamePerson, PricesEdited.
    """
    with transaction.atomic():
        backfill = Backfill.objects.select_for_update().get(pk=backfill_id)
        if backfill.state == State.RUNNING:
            backfill.parts.filter(attempts__gt=0).update(attempts=0)
            return backfill
        if backfill.state != State.COUNTED:
            raise NotNow(backfill)
        if by.pk == backfill.asked_by_id:
            raise SamePerson
        # Under the lock that keeps prices from being edited meanwhile.
        if _digest(prices.current().versions[backfill.price_version_id]) != backfill.prices_digest:
            raise PricesEdited
        PriceVersion.objects.filter(pk=backfill.price_version_id, is_used=False).update(is_used=True)
        backfill.state, backfill.started_by, backfill.started_at = State.RUNNING, by, now
        backfill.save(update_fields=["state", "started_by", "started_at"])
    log.info("backfill started", backfill_id=backfill.pk)
    return backfill


def cancel(backfill_id: int, *, by: User, now: datetime) -> Backfill:
    """Stop a backfill; cancelling it again changes nothing. Raises NotNow once it is done.

    What was priced anew until now stays so, and whom that concerns is told.
    """
    with transaction.atomic():
        backfill = Backfill.objects.select_for_update().get(pk=backfill_id)
        if backfill.state == State.DONE:
            raise NotNow(backfill)
        if backfill.state == State.CANCELLED:
            return backfill
        # Waits for whoever works at a part; who comes later finds the state.
        parts = list(backfill.parts.select_for_update(of=("self",)).select_related("organization").order_by("id"))
        for part in parts:
            if part.revised and part.done_at is None:
                part.backfill = backfill
                end(part, now=now)
                part.save(update_fields=["done_at"])
        backfill.state, backfill.cancelled_by, backfill.finished_at = State.CANCELLED, by, now
        backfill.save(update_fields=["state", "cancelled_by", "finished_at"])
    log.warning("backfill cancelled", backfill_id=backfill.pk)
    return backfill


def end(part: BackfillPart, *, now: datetime) -> None:
    """Note that nothing more is done to an organization's part, and write to who reads about money, once."""
    part.done_at = now
    if part.revised:
        letters.write(
            template="emails/calls_priced_anew",
            reference=f"backfill:{part.backfill.public_id}:{part.organization_id}",
            to=letters.billing_addresses(part.organization),
            organization=part.organization,
            part=part,
            backfill=part.backfill,
            now=now,
        )


def sums(backfill: Backfill) -> dict[str, int]:
    """Return what was counted and what is done, over all organizations: counts of calls, and micros."""
    columns = {name: Sum(name, default=0) for name in _SUMMED}
    return backfill.parts.aggregate(**columns)


_SUMMED = (
    "calls",
    "dearer",
    "cheaper",
    "unpriced",
    "before_micros",
    "more_micros",
    "less_micros",
    "looked_at",
    "revised",
    "charged_micros",
    "given_back_micros",
)


# Asked with each page of figures, and hardly ever answered.
_NOTICED = """
    SELECT id FROM usage_backfillpart WHERE organization_id = %s AND done_at > %s AND revised > 0
    ORDER BY done_at DESC, id DESC LIMIT 3"""


def notices(organization: Organization, *, now: datetime) -> Sequence[BackfillPart]:
    """Return what a customer should know of: the last backfills of late that changed any price of its calls."""
    with connection.cursor() as cursor:
        cursor.execute(_NOTICED, [organization.pk, now - NOTICED_FOR])
        noticed = [part for (part,) in cursor.fetchall()]
    if not noticed:
        return []
    parts = BackfillPart.objects.filter(organization=organization, pk__in=noticed)
    return list(parts.select_related("backfill").order_by("-done_at", "-id"))


_WITH_CALLS = """
    SELECT o FROM unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[]) AS asked (o, starts_at, ends_at)
    WHERE EXISTS (SELECT FROM usage_call c
                  WHERE c.organization_id = o AND c.started_at >= starts_at AND c.started_at < ends_at)"""


def _concerned(wish: Wish, now: datetime) -> list[Organization]:
    """Return the organizations with calls on the days. Raises CannotBe."""
    asked = {each.pk: each for each in _payers(wish)}
    spans = {pk: span(each, wish.starts_on, wish.ends_on) for pk, each in asked.items()}
    for pk, (starts_at, ends_at) in spans.items():
        if ends_at > now:
            raise CannotBe(f"The last day is not over yet for {asked[pk]}: its calls still arrive.")
        if gone := archived.months(pk, starts_at=starts_at, ends_at=ends_at):
            raise CannotBe(f"Calls of {gone[0].month:%B %Y} are in the archive. Attach that month first.")
    columns: list[list[Any]] = [
        list(spans),
        [starts for starts, _ in spans.values()],
        [ends for _, ends in spans.values()],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_WITH_CALLS, columns)
        concerned = [asked[pk] for (pk,) in cursor.fetchall()]
    if not concerned:
        raise CannotBe("None of these organizations has a call that started on these days.")
    return sorted(concerned, key=lambda each: each.pk)


def _payers(wish: Wish) -> list[Organization]:
    """Return whose calls the wish is about. Raises CannotBe for one that these prices are not for."""
    book, named = wish.version.book, wish.organizations
    if named is None:
        # Who has prices of its own keeps them, unless it is named.
        if book.organization_id:
            fitting = Organization.objects.filter(pk=book.organization_id)
        else:
            fitting = Organization.objects.filter(currency=book.currency, own_price_book=None)
        return list(fitting.order_by("id"))
    for each in named:
        if each.currency != book.currency:
            raise CannotBe(f"{each} is billed in {each.currency}, and these prices are in {book.currency}.")
        if book.organization_id not in {None, each.pk}:
            raise CannotBe(f"{wish.version} are the prices of another organization than {each}.")
    return list(named)


def span(organization: Organization, starts_on: date, ends_on: date) -> tuple[datetime, datetime]:
    """Return the half-open span of the days in the organization's time zone."""
    day_after = ends_on + timedelta(days=1)
    return periods.starts_at(starts_on, organization.zone), periods.starts_at(day_after, organization.zone)


def _digest(snapshot: Snapshot) -> UUID:
    """Return what tells prices from other prices."""
    rates = [*snapshot.rates.values(), *([snapshot.surcharge] if snapshot.surcharge else [])]
    lines = sorted(
        (rate.component, rate.product, rate.unit, rate.rate_micros, rate.minimum_ms, rate.increment_ms)
        for rate in rates
    )
    said = repr((snapshot.grace_ms, snapshot.free_ms, snapshot.token_threshold, lines))
    return UUID(bytes=hashlib.sha256(said.encode()).digest()[:16])
