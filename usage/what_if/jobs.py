"""What-ifs from asking to forgetting: month by month, each a step of its own, kept for a while to be compared.

After every month the row says how far it is. A worker that was killed is noticed by the time its row was last touched;
the next one goes on with the month that was being rated.
"""

import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Now

from accounts.models import Organization, User
from usage import periods
from usage.models import DailyUsage, WhatIf
from usage.what_if import choices, rerating
from usage.what_if.choices import Choice
from usage.what_if.rerating import MonthRated

log = structlog.get_logger(__name__)

MOST_MONTHS = 12
KEPT = timedelta(days=30)
# A month of the largest organization takes some seconds; a row that was not touched for so long has lost its worker.
LEASE = timedelta(minutes=3)
MOST_UNDER_WAY = 3
MOST_ATTEMPTS = 5
# So many calls are rated while somebody waits for the page.
AT_ONCE = 100_000


class TooManyUnderWay(Exception):
    """The organization has as many under way as it may."""

    def __str__(self) -> str:
        return f"{MOST_UNDER_WAY} comparisons are being computed already. Wait for one, then ask again."


class NoUsage(Exception):
    """There is no month to apply a choice to."""

    def __str__(self) -> str:
        return "There are no settled calls yet to compare. Come back when some have arrived."


def months(organization: Organization, most: int, *, now: datetime) -> list[date]:
    """Return the last billed months that are over, at most so many, the earliest first; else the present one.

    Only months with usage count. An organization whose first month is not over gets that one, as far as it is.
    """
    present = periods.month_of(now, organization.zone)
    billed = DailyUsage.objects.filter(organization=organization).order_by("-billed_month").distinct("billed_month")
    used = list(billed.values_list("billed_month", flat=True)[: most + 2])
    over = [month for month in used if month < present][:most]
    return sorted(over or used[:1])


def is_small(what_if: WhatIf) -> bool:
    """Say whether its months hold so few calls that somebody may wait for them."""
    days = DailyUsage.objects.filter(organization_id=what_if.organization_id, billed_month__in=what_if.months)
    return int(days.aggregate(calls=Sum("calls"))["calls"] or 0) <= AT_ONCE


def ask(*, organization: Organization, by: User, choice: Choice, most_months: int, now: datetime) -> WhatIf:
    """Ask what the last months would have cost under a choice, and return it; `run` rates it afterwards.

    The same choice for the same months is asked once: while it is kept, that one is returned. Raises NothingChosen,
    NotOffered, NoUsage, TooManyUnderWay.
    """
    choices.check(choice, choices.offer(organization, now=now))
    asked = months(organization, min(max(most_months, 1), MOST_MONTHS), now=now)
    if not asked:
        raise NoUsage
    fields = {
        "plan_version_id": choice.plan,
        "voice": choice.voice,
        "llm": choice.llm,
        "telephony": choice.telephony,
        "months": [f"{month}" for month in asked],
    }
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        own = WhatIf.objects.filter(organization=organization)
        is_over = periods.month_of(now, organization.zone) > asked[-1]
        kept = own.filter(**fields, expires_at__gt=now).exclude(state=WhatIf.State.FAILED).first()
        if kept is not None and (is_over or kept.is_under_way):
            return kept
        if own.filter(state__in=WhatIf.UNDER_WAY).count() >= MOST_UNDER_WAY:
            raise TooManyUnderWay
        return WhatIf.objects.create(
            organization=organization, asked_by=by, asked_at=now, expires_at=now + KEPT, **fields
        )


def run(what_if_id: int, *, clock: Callable[[], datetime], most_months: int = MOST_MONTHS) -> WhatIf | None:
    """Go on with so many months, and return the row as it is then; None where there is nothing to take.

    One at a time: whoever does not get the lease leaves it to the one who has it.
    """
    what_if = _claim(what_if_id, clock)
    if what_if is None:
        return None
    try:
        for month in what_if.months[len(what_if.results) :][:most_months]:
            rated = rerating.month(what_if.organization_id, date.fromisoformat(month), choice_of(what_if))
            what_if.results = [*what_if.results, _written(rated)]
            if not _mine(what_if).update(results=what_if.results, touched_at=Now(), attempts=0):
                return None
    finally:
        # Whether it failed or has more to do: the months that are rated stay, and somebody may go on at once.
        is_done = len(what_if.results) == len(what_if.months)
        state = {"state": WhatIf.State.READY, "finished_at": clock()} if is_done else {}
        _mine(what_if).update(lease=None, **state)
    what_if.refresh_from_db()
    log.info("what-if rated", what_if=what_if.pk, months=len(what_if.results), ready=is_done)
    return what_if


def abandoned(limit: int) -> list[int]:
    """Return those that nobody rates: they never began, or their worker is gone."""
    waiting = WhatIf.objects.filter(state__in=WhatIf.UNDER_WAY).filter(Q(lease=None) | Q(touched_at__lt=Now() - LEASE))
    return list(waiting.order_by("id").values_list("pk", flat=True)[:limit])


def remove(what_if: WhatIf) -> None:
    """Forget one now; whoever rates it notices at the next month."""
    WhatIf.objects.filter(pk=what_if.pk).delete()


def forget(*, now: datetime) -> int:
    """Remove those whose time is over; return how many."""
    return WhatIf.objects.filter(expires_at__lte=now).delete()[0]


def choice_of(what_if: WhatIf) -> Choice:
    """Return what was chosen."""
    return Choice(what_if.plan_version_id, what_if.voice, what_if.llm, what_if.telephony)


def results_of(what_if: WhatIf) -> list[MonthRated]:
    """Return the months that are rated, the earliest first."""
    return [MonthRated(**{**each, "month": date.fromisoformat(each["month"])}) for each in what_if.results]


def _claim(what_if_id: int, clock: Callable[[], datetime]) -> WhatIf | None:
    """Take the lease of one that nobody rates, and return it; None if there is nothing to take."""
    lease = uuid.uuid4()
    free = WhatIf.objects.filter(pk=what_if_id, state__in=WhatIf.UNDER_WAY)
    claimed = free.filter(Q(lease=None) | Q(touched_at__lt=Now() - LEASE)).update(
        lease=lease, touched_at=Now(), state=WhatIf.State.RATING, attempts=F("attempts") + 1
    )
    if not claimed:
        return None
    what_if = WhatIf.objects.get(pk=what_if_id)
    if what_if.lease != lease:
        return None
    if what_if.attempts > MOST_ATTEMPTS:
        _mine(what_if).update(state=WhatIf.State.FAILED, finished_at=clock(), lease=None)
        log.error("what-if failed", what_if=what_if.pk, attempts=what_if.attempts)
        return None
    return what_if


def _mine(what_if: WhatIf) -> QuerySet[WhatIf]:
    return WhatIf.objects.filter(pk=what_if.pk, lease=what_if.lease, state=WhatIf.State.RATING)


def _written(rated: MonthRated) -> dict[str, object]:
    return {
        "month": f"{rated.month}",
        "calls": rated.calls,
        "kept_calls": rated.kept_calls,
        "now": rated.now,
        "then": rated.then,
    }
