"""Lists of conversations, the newest first, a page at a time by keyset."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q, QuerySet

from usage.models.outcomes import Conversation, OutcomeCharge

# A page looks at so many conversations at most: a rare filter then goes on from page to page, and none takes seconds.
SCANNED = 20_000
BY_BUCKET, IN_MONEY, GIVEN_BACK, WAITING, NOT_CHARGED = "bucket", "money", "given_back", "waiting", "none"


class Cursor(NamedTuple):
    """The last conversation looked at."""

    began_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class Filters:
    """Which conversations: begun in the half-open span, with this outcome, for this reason, paid in this way."""

    starts_at: datetime
    ends_at: datetime
    outcome: str = ""
    reason: str = ""
    funding: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation with its charge that stands, and the last one that was taken back."""

    conversation: Conversation
    charge: OutcomeCharge | None
    reversal: OutcomeCharge | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page; `following` is None on the last. One that `is_partial` may be short, with more to come."""

    rows: list[Listed]
    following: Cursor | None
    is_partial: bool


def page(organization_id: int, filters: Filters, *, after: Cursor | None = None, limit: int = 50) -> Page:
    """Return the conversations that match after `after`, the newest first."""
    scanned = _ordered(_begun(organization_id, filters, after))
    matching = Conversation.objects.filter(_matches(organization_id, filters), organization_id=organization_id)
    found = list(_ordered(matching.filter(pk__in=scanned.values("pk")[:SCANNED]))[: limit + 1])
    rows = _listed(organization_id, found[:limit])
    if len(found) > limit:
        return Page(rows, Cursor(found[limit - 1].began_at, found[limit - 1].pk), is_partial=False)
    last = scanned.values_list("began_at", "pk")[SCANNED - 1 : SCANNED].first()
    return Page(rows, Cursor(*last) if last else None, is_partial=last is not None)


def _begun(organization_id: int, filters: Filters, after: Cursor | None) -> QuerySet[Conversation]:
    begun = Conversation.objects.filter(
        organization_id=organization_id, began_at__gte=filters.starts_at, began_at__lt=filters.ends_at
    )
    if after is None:
        return begun
    return begun.filter(Q(began_at=after.began_at, pk__lt=after.id) | Q(began_at__lt=after.began_at))


def _ordered(conversations: QuerySet[Conversation]) -> QuerySet[Conversation]:
    return conversations.order_by("-began_at", "-pk")


def _matches(organization_id: int, filters: Filters) -> Q:
    matches = Q()
    if filters.outcome:
        matches &= Q(outcome=filters.outcome)
    if filters.reason:
        matches &= Q(reason=filters.reason)
    if filters.reference:
        matches &= Q(reference__startswith=filters.reference)
    charges = OutcomeCharge.objects.filter(organization_id=organization_id)
    standing = charges.filter(pk=OuterRef("charge_id"))
    if filters.funding == BY_BUCKET:
        matches &= Q(Exists(standing.filter(bucket_id__isnull=False)))
    elif filters.funding == IN_MONEY:
        matches &= Q(Exists(standing.filter(bucket_id=None, sequence__isnull=False)))
    elif filters.funding == GIVEN_BACK:
        matches &= Q(Exists(charges.filter(conversation=OuterRef("pk"), kind=OutcomeCharge.Kind.REVERSAL)))
    elif filters.funding == WAITING:
        matches &= Q(due_at__isnull=False) | Q(Exists(standing.filter(sequence=None)))
    elif filters.funding == NOT_CHARGED:
        matches &= Q(due_at=None, charge_id=None)
    return matches


def _listed(organization_id: int, conversations: Sequence[Conversation]) -> list[Listed]:
    charges = OutcomeCharge.objects.filter(organization_id=organization_id)
    standing = charges.in_bulk([each.charge_id for each in conversations if each.charge_id])
    reversals = charges.filter(conversation__in=[each.pk for each in conversations], kind=OutcomeCharge.Kind.REVERSAL)
    newest = {each.conversation_id: each for each in reversals.order_by("id")}
    return [Listed(each, standing.get(each.charge_id or 0), newest.get(each.pk)) for each in conversations]
