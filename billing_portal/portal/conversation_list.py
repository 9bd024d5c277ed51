"""The list of conversations as its page shows it: filters of an address, and rows in words."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from accounts.models import Organization
from billing_portal.portal import date_ranges, formats
from billing_portal.portal.date_ranges import Days
from usage.models import OutcomeType
from usage.outcomes import explanations, listing
from usage.outcomes.judging import Reason
from usage.outcomes.listing import Cursor, Listed

PAGE_SIZE = 50
OUTCOMES = OutcomeType.choices
REASONS = (
    (Reason.CONFIRMED, "Confirmed by the customer"),
    (Reason.ASSUMED, "Assumed after silence"),
    (Reason.TOLD, "Reported by the platform"),
    (Reason.NEEDS_HELP, "Asked for more help"),
    (Reason.BAD_RATING, "Rated badly"),
    (Reason.ESCALATED, "Handed to a person"),
    (Reason.NO_ANSWER, "Nothing but a greeting"),
    (Reason.NO_AGENT, "No answer of the agent"),
    (Reason.NOT_PRICED, "Without a price"),
)
FUNDINGS = (
    (listing.BY_BUCKET, "A bucket"),
    (listing.IN_MONEY, "Credit or card"),
    (listing.WAITING, "Not charged yet"),
    (listing.NOT_CHARGED, "Not charged"),
    (listing.GIVEN_BACK, "Given back"),
)
_CHOICES = {"outcome": OUTCOMES, "reason": REASONS, "funding": FUNDINGS}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person filters by, as the form shows it."""

    days: Days
    outcome: str
    reason: str
    funding: str
    reference: str

    @classmethod
    def of(cls, query: QueryDict, *, days: Days) -> "Filters":
        """Read the filters of an address; what nothing is called is no filter."""
        chosen = {
            name: value if (value := query.get(name, "")) in dict(choices) else "" for name, choices in _CHOICES.items()
        }
        return cls(days, reference=query.get("reference", "").replace("\0", "").strip()[:128], **chosen)

    @property
    def parameters(self) -> dict[str, str]:
        """What names this list in an address."""
        named = {name: getattr(self, name) for name in (*_CHOICES, "reference")}
        return self.days.parameters | {name: value for name, value in named.items() if value}

    def address(self, here: str, **changes: str) -> str:
        """Return an address with these parameters, changed; an empty value takes one out."""
        wanted = {name: value for name, value in (self.parameters | changes).items() if value}
        return f"{here}?{urlencode(wanted)}"


class Row(NamedTuple):
    """One conversation as the table shows it, every cell formatted."""

    url: str
    began: str
    reference: str
    agent: str
    outcome: str
    tone: str
    why: str
    cost: str
    state: str


class Page(NamedTuple):
    """One page; `next_cursor` is empty on the last. One that is partial may be short, with more to come."""

    rows: list[Row]
    is_later: bool
    is_partial: bool
    next_cursor: str


def page(organization: Organization, filters: Filters, *, cursor: str, now: datetime) -> Page:
    """Return the page that `cursor` names; the first for an empty or an unreadable one."""
    after = _read(cursor)
    wanted = listing.Filters(
        starts_at=date_ranges.starts_at(filters.days, organization.zone),
        ends_at=date_ranges.ends_at(filters.days, organization.zone),
        outcome=filters.outcome,
        reason=filters.reason,
        funding=filters.funding,
        reference=filters.reference,
    )
    found = listing.page(organization.pk, wanted, after=after, limit=PAGE_SIZE)
    return Page(
        rows=[_row(organization, each, now) for each in found.rows],
        is_later=after is not None,
        is_partial=found.is_partial,
        next_cursor=_write(found.following) if found.following else "",
    )


def _row(organization: Organization, listed: Listed, now: datetime) -> Row:
    conversation = listed.conversation
    is_open = conversation.decided_at is not None and conversation.decided_at > now
    cost, state = _cost(organization, listed, is_open=is_open)
    outcome = explanations.name_of(conversation.outcome).capitalize() if conversation.outcome else "None"
    return Row(
        url=reverse("conversation", args=[organization.public_id, conversation.reference]),
        began=formats.moment(conversation.began_at, organization.zone),
        reference=conversation.reference,
        agent=conversation.agent or "–",
        outcome=f"{outcome}, if nothing is said" if is_open else outcome,
        tone="info" if is_open else "good" if conversation.outcome else "neutral",
        why=dict(REASONS).get(conversation.reason, ""),
        cost=cost,
        state=state,
    )


def _cost(organization: Organization, listed: Listed, *, is_open: bool) -> tuple[str, str]:
    """Return what a conversation costs, and what is to be said of it."""
    charge, undone = listed.charge, "given back" if listed.reversal else ""
    if charge is None:
        return "–", undone or ("not final yet" if is_open else "")
    if charge.sequence is None:
        return formats.money_exact(charge.price_micros, organization.currency), "being settled"
    if charge.bucket_id is not None:
        return "1 unit", "from a bucket"
    return formats.money_exact(charge.amount_micros or 0, organization.currency), undone and "one before given back"


def _write(cursor: Cursor) -> str:
    return base64.urlsafe_b64encode(f"{cursor.began_at.isoformat()} {cursor.id}".encode()).decode()


def _read(text: str) -> Cursor | None:
    try:
        began_at, _, conversation_id = base64.urlsafe_b64decode(text).decode().partition(" ")
        instant = datetime.fromisoformat(began_at)
        return Cursor(instant, int(conversation_id)) if instant.tzinfo else None
    except (ValueError, binascii.Error):
        return None
