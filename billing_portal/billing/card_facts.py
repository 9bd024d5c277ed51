"""What the ledger knows of cards: `Account.has_card`, kept by triggers of `PaymentMethod`, proved and mended here."""

import structlog
from django.db.models import Exists, OuterRef, Q, QuerySet

from billing_portal.billing.models import PaymentMethod
from billing_portal.ledger.models import Account

log = structlog.get_logger(__name__)


def misstated() -> QuerySet[Account]:
    """Return the accounts that are wrong about whether there is a card to charge: it decides if usage goes on."""
    cards = PaymentMethod.objects.filter(organization=OuterRef("organization"), is_default=True, removed_at=None)
    return Account.objects.filter(Q(~Exists(cards), has_card=True) | Q(Exists(cards), has_card=False))


def mend() -> int:
    """Put right what is misstated and return how many accounts that were; more than none is a fault of ours."""
    mended = 0
    for account in misstated().order_by("organization_id"):
        Account.objects.filter(pk=account.pk).update(has_card=not account.has_card)
        log.error("account was wrong about its card", organization_id=account.organization_id)
        mended += 1
    return mended
