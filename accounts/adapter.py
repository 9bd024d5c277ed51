"""Where the portal's choices differ from allauth's."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from accounts import mail


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Send allauth's e-mails as the portal sends its own."""

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "The e-mail address or the password is not correct.",
        "incorrect_code": "This code is not correct.",
        "too_many_login_attempts": "Too many attempts. Please wait a few minutes and try again.",
    }

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        mail.send(template=template_prefix, to=email, **context)


class MfaAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Show the vendor's name where a device asks whether to use a passkey."""

    error_messages = DefaultMFAAdapter.error_messages | {"incorrect_code": "This code is not correct."}

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        entity: dict[str, str] = super().get_public_key_credential_rp_entity()
        return entity | {"name": settings.VENDOR_NAME}

    def generate_authenticator_name(self, user: Any, type: Any) -> str:  # noqa: A002 (allauth's name)
        count = user.authenticator_set.filter(type=type).count()
        return f"Passkey {count + 1}" if count else "Passkey"
