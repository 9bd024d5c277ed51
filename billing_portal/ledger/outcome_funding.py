"""Who paid for one outcome, and what came back for one that was taken back."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Sum

from billing_portal.ledger import outcome_settlement, settlement
from billing_portal.ledger.models import Bucket, Grant, Settlement
from usage.models import Conversation, OutcomeCharge
from usage.outcomes import second_looks


@dataclass(frozen=True, slots=True)
class OutcomeFunding:
    """Who paid for one outcome: a unit of a bucket, or micros by grant and what is accrued to the card."""

    bucket: Bucket | None
    grants: list[tuple[Grant, int]]
    accrued_micros: int


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What a reversal gave back: a unit to its bucket, or a correction credit; neither where nothing had been paid."""

    bucket: Bucket | None
    grant: Grant | None


def of_charge(charge: OutcomeCharge) -> OutcomeFunding | None:
    """Return who paid for a charge, None while it waits for settlement. It adds up to its amount exactly."""
    if charge.sequence is None:
        return None
    if charge.bucket_id is not None:
        return OutcomeFunding(_bucket(charge), [], 0)
    of_organization = OutcomeCharge.objects.filter(organization_id=charge.organization_id)
    found = Settlement.objects.get(
        organization_id=charge.organization_id,
        first_sequence__lte=charge.sequence,
        last_sequence__gte=charge.sequence,
    )
    earlier = of_organization.filter(sequence__gte=found.first_sequence, sequence__lt=charge.sequence)
    before = int(earlier.aggregate(sum=Sum("amount_micros"))["sum"] or 0)
    funding = settlement.funding_within(found, starts=before, micros=charge.amount_micros or 0)
    return OutcomeFunding(None, funding.grants, funding.accrued_micros)


def given_back(reversal: OutcomeCharge) -> GivenBack | None:
    """Return what a reversal gave back, None while it waits for settlement."""
    if reversal.sequence is None:
        return None
    grants = Grant.objects.filter(organization_id=reversal.organization_id)
    grant = grants.filter(reference=outcome_settlement.reversal_reference(reversal.pk)).first()
    return GivenBack(_bucket(reversal), grant)


def reconsider(conversation: Conversation, *, now: datetime) -> bool:
    """Give back at once what a conversation's events do not bear; return whether anything was. Safe twice.

    Raises AccountMissing, AccountFrozen.
    """
    is_undone = second_looks.take(conversation, now=now)
    if is_undone:
        outcome_settlement.settle_all(conversation.organization_id, now=now)
    return is_undone


def _bucket(charge: OutcomeCharge) -> Bucket | None:
    if charge.bucket_id is None:
        return None
    return Bucket.objects.get(organization_id=charge.organization_id, pk=charge.bucket_id)
