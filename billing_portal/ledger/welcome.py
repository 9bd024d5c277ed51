"""Who earns a welcome credit.

At sign-up: as many organizations of an e-mail domain as WELCOME_CREDITS_PER_DOMAIN allows. A free-mail domain says
nothing about who writes, so there each mailbox counts by itself. Later: a card earns one organization its credit; when
it is saved for another, what is left of that one's credit is taken back. Each claim is a row with a unique key, so of
two at once one has it.
"""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction

from accounts.models import Organization
from billing_portal.ledger import accounts, credits, reversals
from billing_portal.ledger.models import Grant, Transaction, WelcomeClaim

log = structlog.get_logger(__name__)

CARD_REASON = "This card already earned a welcome credit for another account"
# A country's own second level ("co.uk", "com.br") is at most so long; what stands before it is the company's.
_LONGEST_SECOND_LEVEL = 3


def give(*, organization: Organization, email: str, now: datetime) -> Grant | None:
    """Give the welcome credit if the address earns one; None if it does not, or the currency has none.

    Doing it again returns what was given. Raises AccountMissing and AccountFrozen.
    """
    with transaction.atomic():
        accounts.lock(organization.pk)
        given = _grant_of(organization)
        if given is not None or not settings.WELCOME_CREDIT_MICROS.get(organization.currency):
            return given
        if not any(_claim(organization, key, now) for key in _places(email)):
            log.info("welcome credit withheld", organization_id=organization.pk)
            return None
        return credits.grant_welcome(organization=organization, now=now)


def claim_card(*, organization: Organization, fingerprint: str, now: datetime) -> Transaction | None:
    """Let a saved card earn the organization its welcome credit; return the reversal if it earned another's before.

    Nothing happens without a welcome credit, without anything left of it, or without a fingerprint (Link has none).
    """
    if not fingerprint or _grant_of(organization) is None:
        return None
    with transaction.atomic():
        accounts.lock(organization.pk)
        grant = _grant_of(organization)
        if grant is None or _claim(organization, f"card:{fingerprint}", now) or not grant.remaining_micros:
            return None
        return reversals.reverse_grant(
            organization=organization,
            grant_id=grant.pk,
            reason=CARD_REASON,
            reference=f"welcome_withdrawn:{organization.pk}",
            now=now,
        )


def company_of(email: str) -> str:
    """Return the domain that a company registered, of an address of one of its hosts: "acme.co.uk" of "a@m.acme.co.uk".

    Without a list of all registries: two labels, or three below a country's short second level.
    """
    labels = email.rpartition("@")[2].lower().removesuffix(".").split(".")
    below_country = len(labels[-1]) == 2 and len(labels[-2:][0]) <= _LONGEST_SECOND_LEVEL
    return ".".join(labels[-3:] if below_country else labels[-2:])


def _places(email: str) -> list[str]:
    """Return the keys under which an address may claim a credit; the first that is free is taken."""
    company = company_of(email)
    if company in settings.FREE_MAIL_DOMAINS:
        return [f"mailbox:{_mailbox(email)}@{company}"]
    return [f"domain:{company}:{place}" for place in range(1, settings.WELCOME_CREDITS_PER_DOMAIN + 1)]


def _mailbox(email: str) -> str:
    """Return the mailbox behind an address: neither dots nor what follows a plus tell two apart."""
    return email.rpartition("@")[0].lower().partition("+")[0].replace(".", "")


def _claim(organization: Organization, key: str, now: datetime) -> bool:
    """Say whether the key is the organization's, claiming it if it is nobody's."""
    claim, _ = WelcomeClaim.objects.get_or_create(key=key, defaults={"organization": organization, "claimed_at": now})
    return claim.organization_id == organization.pk


def _grant_of(organization: Organization) -> Grant | None:
    return Grant.objects.filter(organization=organization, kind=Grant.Kind.WELCOME).order_by("id").first()
