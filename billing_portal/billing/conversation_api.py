"""What was charged for a conversation, for programs: who paid, on which invoice, and what came back."""

from datetime import date, datetime
from typing import Annotated, Literal

import msgspec
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.request import Request

from accounts.models import Organization
from billing_portal.billing.models import Invoice
from billing_portal.ledger import outcome_funding
from billing_portal.ledger.models import Bucket
from usage.api import description, queries
from usage.api.answers import Currency, Micros
from usage.api.keyed_views import KeyedView, answer, not_found, organization_of
from usage.models import OutcomeCharge
from usage.outcomes import explanations

Month = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}$")]


class PaidUnit(msgspec.Struct, frozen=True):
    """One unit of a bucket: how many it was bought with, and until when."""

    bucket_size: int
    expires_at: datetime


class PaidCredit(msgspec.Struct, frozen=True):
    """What one credit paid."""

    kind: str
    micros: Micros


class OnInvoice(msgspec.Struct, frozen=True):
    """The invoice of the charge's month, and the line it is part of. A draft has no number yet."""

    number: str
    state: str
    line: str
    finalized_at: datetime | None
    paid_at: datetime | None


class ConversationMovement(msgspec.Struct, frozen=True):
    """A charge, or a reversal: a unit or credits and what is accrued to the card; of a reversal what came back.

    Without a sequence it is not settled: nobody has paid or got anything yet.
    """

    revision: int
    kind: Literal["charge", "reversal"]
    outcome: str
    decided_at: datetime
    withdrawn_at: datetime | None
    sequence: int | None
    billed_month: Month | None
    unit: PaidUnit | None
    credits: list[PaidCredit]
    accrued_micros: Micros
    invoice: OnInvoice | None


class ConversationBilling(msgspec.Struct, frozen=True):
    """All that was charged for a conversation and given back, the oldest first."""

    conversation_id: str
    organization: str
    currency: Currency
    movements: list[ConversationMovement]


class ConversationBillingView(KeyedView):
    """What was charged for one conversation."""

    @description.reads("get_conversation_billing", query=queries.OrganizationQuery, answer=ConversationBilling)
    def get(self, request: Request, conversation_id: str) -> HttpResponse:
        """Say who paid for a conversation, on which invoice, and what came back."""
        query = queries.read(request.query_params, queries.OrganizationQuery)
        organization = organization_of(request, query)
        found = None if "\x00" in conversation_id else explanations.find(organization.pk, conversation_id)
        if found is None:
            raise not_found()
        charges = OutcomeCharge.objects.filter(organization_id=organization.pk, conversation=found)
        movements = [_movement(organization, each) for each in charges.order_by("id")]
        return answer(ConversationBilling(found.reference, organization.reference, organization.currency, movements))


def _movement(organization: Organization, charge: OutcomeCharge) -> ConversationMovement:
    unit, paid, accrued_micros = _paid(charge)
    in_money = charge.kind == OutcomeCharge.Kind.CHARGE and charge.bucket_id is None
    return ConversationMovement(
        revision=charge.revision,
        kind=charge.kind,  # type: ignore[arg-type]
        outcome=charge.outcome,
        decided_at=charge.decided_at,
        withdrawn_at=charge.withdrawn_at,
        sequence=charge.sequence,
        billed_month=f"{charge.billed_month:%Y-%m}" if charge.billed_month else None,
        unit=unit,
        credits=paid,
        accrued_micros=accrued_micros,
        invoice=_invoice(organization, charge.billed_month, charge.outcome) if in_money else None,
    )


def _paid(charge: OutcomeCharge) -> tuple[PaidUnit | None, list[PaidCredit], int]:
    """Return the unit, the credits and the micros on the card that paid, or that came back."""
    if charge.kind == OutcomeCharge.Kind.REVERSAL:
        back = outcome_funding.given_back(charge)
        credit = [PaidCredit(back.grant.kind, back.grant.amount_micros)] if back and back.grant else []
        return _unit(back.bucket if back else None), credit, 0
    funding = outcome_funding.of_charge(charge)
    if funding is None:
        return None, [], 0
    paid = [PaidCredit(grant.kind, micros) for grant, micros in funding.grants]
    return _unit(funding.bucket), paid, funding.accrued_micros


def _unit(bucket: Bucket | None) -> PaidUnit | None:
    return PaidUnit(bucket.size, bucket.expires_at) if bucket else None


def _invoice(organization: Organization, month: date | None, component: str) -> OnInvoice | None:
    if month is None:
        return None
    invoices = Invoice.objects.filter(organization=organization, month=month).exclude(state=Invoice.State.VOID)
    found = invoices.order_by("id").first()
    if found is None:
        return None
    return OnInvoice(found.number, found.state, component, found.finalized_at, found.paid_at)
