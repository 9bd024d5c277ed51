"""The making of an organization by the person who will own it."""

import secrets
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils.text import slugify

from accounts import terms
from accounts.models import Membership, Organization, User, validate_time_zone

logger = structlog.get_logger(__name__)

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


class ReferenceTaken(Exception):
    """Another organization has this reference."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"The reference {reference} belongs to another organization.")
        self.reference = reference


@transaction.atomic
def register(
    *,
    user: User,
    name: str,
    currency: str,
    time_zone: str,
    terms_version: str,
    now: datetime,
    reference: str | None = None,
    token: UUID | None = None,
) -> Organization:
    """Make an organization that `user` owns and return it.

    Without a `reference` one is made of the name. Registering twice with one `token`, minted with the form,
    or with one `reference`, returns the first organization: a double submit makes one. The person's row is
    locked, so that the second of two such requests waits for the first.
    Raises ReferenceTaken, and ValidationError for a time zone that does not exist.
    """
    validate_time_zone(time_zone)
    User.objects.select_for_update().get(pk=user.pk)
    fields = {
        "name": name,
        "currency": currency,
        "time_zone": time_zone,
        "billing_email": user.email,
        "created_at": now,
        "sign_up_token": token,
    }
    if token and (earlier := _owned_by(user).filter(sign_up_token=token).first()):
        return earlier
    if reference and (earlier := _owned_by(user).filter(reference=reference).first()):
        return earlier
    for candidate in [reference] if reference else _references(name):
        organization, is_new = Organization.objects.get_or_create(reference=candidate, defaults=fields)
        if is_new:
            break
    else:
        raise ReferenceTaken(candidate)
    Membership.objects.create(organization=organization, user=user, role=Membership.Role.OWNER, created_at=now)
    terms.accept(user=user, organization=organization, version=terms_version, now=now)
    logger.info("organization_registered", organization=str(organization.public_id))
    return organization


def _owned_by(user: User) -> QuerySet[Organization]:
    return Organization.objects.filter(memberships__user=user, memberships__role=Membership.Role.OWNER)


def _references(name: str) -> Iterator[str]:
    """Yield the name as a slug, then a few times with random letters behind it."""
    slug = slugify(name)[:56].strip("-") or "organization"
    yield slug
    for _ in range(5):
        yield f"{slug}-{''.join(secrets.choice(_LETTERS) for _ in range(6))}"
