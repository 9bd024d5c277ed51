"""E-mails people can read."""

from pathlib import Path

import allauth
import pytest
from django.core import mail as outbox
from django.template.loader import get_template, render_to_string
from django.utils import timezone

from accounts import mail

ALLAUTH_TEMPLATES = Path(allauth.__file__).parent / "templates"
LETTERS = sorted(
    str(path.relative_to(ALLAUTH_TEMPLATES)).removesuffix("_message.txt")
    for area in ("account", "mfa")
    for path in (ALLAUTH_TEMPLATES / area / "email").glob("*_message.txt")
    if path.name != "base_message.txt"
)


def test_allauth_still_sends_the_letters_we_know() -> None:
    assert len(LETTERS) == 18


@pytest.mark.parametrize("letter", LETTERS)
def test_each_letter_of_allauth_has_our_subject_text_and_html(letter: str, settings: object) -> None:
    for suffix in ["_subject.txt", "_message.txt", "_message.html"]:
        assert "site-packages" not in get_template(f"{letter}{suffix}").origin.name
    mail.send(
        template=letter,
        to="o'hara&co@acme.example",
        code="BCDF-GHJK",
        password_reset_url="https://portal.example/reset?a=1&b=2",
        signup_url="https://portal.example/sign-up",
        ip="192.0.2.7",
        user_agent="Browser <1.0> & more",
        timestamp=timezone.now(),
        from_email="old@acme.example",
        to_email="new@acme.example",
        deleted_email="gone@acme.example",
    )
    message = outbox.outbox[0]
    html = message.alternatives[0].content
    assert settings.VENDOR_NAME in message.subject  # type: ignore[attr-defined]
    assert "&#x27;" not in message.body
    assert "&amp;" not in message.body
    assert "{" not in message.body
    assert "Browser <1.0>" not in html
    assert settings.SUPPORT_EMAIL in message.body  # type: ignore[attr-defined]
    assert settings.SUPPORT_EMAIL in html  # type: ignore[attr-defined]
    for part in ("BCDF-GHJK", "192.0.2.7", "https://portal.example/sign-up"):
        assert (part in message.body) == (part in html)


def test_an_automatic_letter_says_so(settings: object) -> None:
    mail.send(template="account/email/email_confirmation", to="dana@acme.example", code="BCDF-GHJK")
    message = outbox.outbox[0]
    assert message.extra_headers["Auto-Submitted"] == "auto-generated"
    assert message.from_email == settings.DEFAULT_FROM_EMAIL  # type: ignore[attr-defined]
    assert message.to == ["dana@acme.example"]


def test_a_subject_is_one_line() -> None:
    mail.send(template="account/email/password_changed", to="dana@acme.example", timestamp=timezone.now())
    assert "\n" not in outbox.outbox[0].subject


def test_a_button_carries_its_address_and_its_label() -> None:
    html = render_to_string("emails/button.html", {"url": "https://portal.example/?a=1&b=2", "label": "Open"})
    assert 'href="https://portal.example/?a=1&amp;b=2"' in html
    assert "Open</a>" in html
