"""Acceptance of the vendor's terms: who, which version, when, and for which organization."""

from datetime import datetime

from accounts.models import Organization, TermsAcceptance, User


def accept(*, user: User, version: str, now: datetime, organization: Organization | None = None) -> TermsAcceptance:
    """Keep that `user` accepted `version`, for `organization` or, at sign-up, for the person alone.

    Accepting the same version again keeps the first instant.
    """
    acceptance, _ = TermsAcceptance.objects.get_or_create(
        user=user, organization=organization, version=version, defaults={"accepted_at": now}
    )
    return acceptance


def has_accepted(*, organization: Organization, version: str) -> bool:
    """Say whether anyone accepted `version` for the organization."""
    return TermsAcceptance.objects.filter(organization=organization, version=version).exists()
