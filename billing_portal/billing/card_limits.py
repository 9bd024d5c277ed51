"""How often cards may be entered: by an organization, from an address, and with one card over all organizations."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.utils.crypto import salted_hmac

from accounts.models import Organization
from billing_portal.billing import gateway
from billing_portal.billing.models import CardSetup

log = structlog.get_logger(__name__)

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


class TooManySetups(Exception):
    """Cards were entered too often within an hour."""

    def __init__(self, organization: Organization) -> None:
        super().__init__("Too many attempts to add a card. Try again in an hour.")
        self.organization = organization


def mark_of(address: str) -> str:
    """Return what tells an internet address from others without keeping it; nothing for none."""
    return salted_hmac("billing.card_limits", address).hexdigest() if address else ""


def check(organization: Organization, *, address: str, now: datetime) -> None:
    """Raise TooManySetups if the organization, or anybody at this address, began too many entries in an hour."""
    recent = CardSetup.objects.filter(created_at__gt=now - _HOUR)
    own = recent.filter(organization=organization).count()
    same_address = recent.filter(address_mark=mark_of(address)).count() if address else 0
    if own >= settings.CARD_SETUPS_PER_ORGANIZATION or same_address >= settings.CARD_SETUPS_PER_ADDRESS:
        log.warning("too many card entries", organization_id=organization.pk, own=own, same_address=same_address)
        raise TooManySetups(organization)


def note_card(setup: CardSetup, intent: gateway.Object) -> None:
    """Keep with which card the entry was tried, whether it was taken or declined."""
    details = intent.get("payment_method") or (intent.get("last_setup_error") or {}).get("payment_method") or {}
    fingerprint = (details.get("card") or {}).get("fingerprint") if isinstance(details, dict) else ""
    if fingerprint and fingerprint != setup.fingerprint:
        CardSetup.objects.filter(pk=setup.pk).update(fingerprint=fingerprint)
        setup.fingerprint = fingerprint


def is_tried_too_often(setup: CardSetup) -> bool:
    """Say whether the entry's card was entered too often within the day before it, over all organizations."""
    if not setup.fingerprint:
        return False
    same = CardSetup.objects.filter(fingerprint=setup.fingerprint, created_at__lte=setup.created_at, pk__lt=setup.pk)
    return same.filter(created_at__gt=setup.created_at - _DAY).count() >= settings.CARD_SETUPS_PER_CARD
