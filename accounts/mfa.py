"""Second factors: whether a person has one, whether a session proved one, and enrolment without a browser."""

import time

from allauth.account.adapter import get_adapter
from allauth.account.authentication import get_authentication_records
from allauth.mfa import app_settings
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth
from allauth.mfa.utils import encrypt
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest

from accounts.models import User

_SECOND_FACTORS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


def is_enrolled(user: User | AnonymousUser) -> bool:
    """Say whether the person has an authenticator app or a passkey."""
    return bool(Authenticator.objects.filter(user=user, type__in=_SECOND_FACTORS).exists())


def is_proved(request: HttpRequest) -> bool:
    """Say whether this session was opened, or confirmed since, with a second factor.

    A session older than the enrolment was not: its owner knew the password only.
    """
    return any(record["method"] == "mfa" for record in get_authentication_records(request, request.user))


def confirm_url(user: User | AnonymousUser) -> str | None:
    """Return where the person proves a second factor within the session; None without an enrolment."""
    for method in get_adapter().get_reauthentication_methods(user):
        if method["id"].startswith("mfa_reauthenticate"):
            return str(method["url"])
    return None


def enroll_totp(user: User, secret: str) -> None:
    """Let the person log in with codes of `secret` (base 32); for the demo's staff and for tests."""
    Authenticator.objects.update_or_create(
        user=user, type=Authenticator.Type.TOTP, defaults={"data": {"secret": encrypt(secret)}}
    )


def new_secret() -> str:
    """Return a fresh secret of 160 random bits, in base 32."""
    return str(auth.generate_totp_secret())


def current_code(secret: str) -> str:
    """Return the code an authenticator app shows now, by wall time."""
    counter = int(time.time()) // app_settings.TOTP_PERIOD
    return str(auth.format_hotp_value(auth.hotp_value(secret, counter)))
