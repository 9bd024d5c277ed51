"""Previews of proposals, made step by step: each one transaction, by whoever has the lease; if killed, by another."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from usage import periods
from usage.models.proposals import Proposal, ProposalState

log = structlog.get_logger(__name__)

State = ProposalState
P = TypeVar("P", bound=Proposal)

MOST_ATTEMPTS = 5
# Where months end last.
_LAST_ZONE = ZoneInfo("Etc/GMT+12")


def last_full_month(now: datetime) -> date:
    """Return the last month that is over in every time zone."""
    return periods.previous_month(periods.month_of(now, _LAST_ZONE))


@dataclass(frozen=True)
class Previews(Generic[P]):
    """The previews of one kind of proposals.

    `step` does some of one impact, given whatever `prepared` makes of the proposal once a run; when none is left,
    `summary` adds all up. A row that was not touched for `lease`, which a step must not take, has lost its worker.
    """

    model: type[P]
    prepared: Callable[[P], Any]
    step: Callable[[P, Any, Any], None]
    summary: Callable[[P], dict[str, Any]]
    lease: timedelta

    def run(self, proposal_id: int, *, clock: Callable[[], float], seconds: float = float("inf")) -> P | None:
        """Go on with a preview for so many seconds, and return the proposal as it is then; None if none is to be taken.

        `clock` counts seconds. One at a time: whoever does not get the lease leaves it to the one who has it.
        """
        proposal = self._claim(proposal_id)
        if proposal is None:
            return None
        until, more = clock() + seconds, True
        prepared = self.prepared(proposal)
        try:
            while more and clock() < until:
                more = self._step(proposal, prepared)
        finally:
            self._mine(proposal).update(lease=None)
        proposal.refresh_from_db()
        return proposal

    def abandoned(self, limit: int) -> list[int]:
        """Return proposals whose preview nobody makes: it never began, or its worker is gone."""
        return list(self._free().order_by("id").values_list("pk", flat=True)[:limit])

    def _free(self) -> QuerySet[P]:
        unheld = Q(lease=None) | Q(touched_at__lt=Now() - self.lease)
        return self.model._default_manager.filter(unheld, state=State.PREVIEWING)

    def _claim(self, proposal_id: int) -> P | None:
        lease = uuid.uuid4()
        if not self._free().filter(pk=proposal_id).update(lease=lease, touched_at=Now(), attempts=F("attempts") + 1):
            return None
        rows = self.model._default_manager.select_related("book")
        proposal = rows.filter(pk=proposal_id, lease=lease).first()
        if proposal is not None and proposal.attempts > MOST_ATTEMPTS:
            self._mine(proposal).update(state=State.FAILED, lease=None)
            log.error("preview failed", kind=self.model.__name__, proposal=proposal.pk)
            return None
        return proposal

    def _mine(self, proposal: P) -> QuerySet[P]:
        mine = self.model._default_manager.filter(pk=proposal.pk, lease=proposal.lease)
        return mine.filter(state=State.PREVIEWING)

    @transaction.atomic
    def _step(self, proposal: P, prepared: Any) -> bool:
        """Do some of the next organization, or where none is left, sum all up; say if there is more."""
        if not self._mine(proposal).update(touched_at=Now(), attempts=0):
            return False
        todo = proposal.impacts.filter(is_done=False).select_related("organization").order_by("id")
        impact = todo.first()
        if impact is None:
            self._mine(proposal).update(state=State.PREVIEWED, summary=self.summary(proposal), lease=None)
            return False
        self.step(proposal, impact, prepared)
        impact.save()
        return True
