"""The models, by noun. Each module keeps one; the rest of the code imports from here."""

from accounts.models.answers import KeptAnswer
from accounts.models.letters import Letter
from accounts.models.people import (
    ApiKey,
    ApiKeyQuerySet,
    Membership,
    Organization,
    TermsAcceptance,
    User,
    UserManager,
    validate_time_zone,
)

__all__ = [
    "ApiKey",
    "ApiKeyQuerySet",
    "KeptAnswer",
    "Letter",
    "Membership",
    "Organization",
    "TermsAcceptance",
    "User",
    "UserManager",
    "validate_time_zone",
]
