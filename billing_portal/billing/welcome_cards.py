"""One welcome credit a card: what happens when a saved card earned another organization's."""

from datetime import datetime

import structlog
from django.db import transaction

from accounts import letters
from billing_portal.billing.models import PaymentMethod
from billing_portal.ledger import accounts, welcome

log = structlog.get_logger(__name__)


def judge(method: PaymentMethod, *, now: datetime) -> None:
    """Let the card earn the welcome credit, or take back what is left of it and write why; safe to repeat.

    Saving a card never fails for this: while the account is frozen, the credit is left to whoever lifts the freeze.
    """
    organization = method.organization
    try:
        with transaction.atomic():
            reversed_ = welcome.claim_card(organization=organization, fingerprint=method.fingerprint, now=now)
            if reversed_ is None:
                return
            letters.write(
                template="emails/welcome_withdrawn",
                reference=f"welcome_withdrawn:{organization.pk}",
                to=letters.billing_addresses(organization),
                organization=organization,
                card=str(method),
                micros=reversed_.entries.get(book="reversed").micros,
                now=now,
            )
    except accounts.AccountFrozen:
        log.warning("card not judged", organization_id=organization.pk, payment_method_id=method.pk)
