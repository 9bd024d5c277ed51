"""E-mails to people: a subject, a text and an HTML body, as sibling templates.

`templates/<template>_subject.txt`, `…_message.txt` and `…_message.html`; the bodies extend `emails/base.txt`
and `emails/base.html`. What must be sent exactly when something was committed goes through `letters`.
"""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string


@dataclass(frozen=True, slots=True)
class Composed:
    """An e-mail ready to be sent."""

    to: str
    subject: str
    text: str
    html: str


def send(*, template: str, to: str, **context: Any) -> None:
    """Send the e-mail called `template` to one address.

    Every template also knows `vendor_name`, `support_email`, `base_url`, `subject` and `email`, the address.
    """
    deliver(compose(template=template, to=to, **context))


def compose(*, template: str, to: str, **context: Any) -> Composed:
    """Return what `send` would send, without sending it."""
    context |= {
        "vendor_name": settings.VENDOR_NAME,
        "support_email": settings.SUPPORT_EMAIL,
        "base_url": settings.BASE_URL,
        "email": to,
    }
    subject = " ".join(render_to_string(f"{template}_subject.txt", context).split())
    context["subject"] = subject
    text = render_to_string(f"{template}_message.txt", context).strip() + "\n"
    return Composed(to, subject, text, render_to_string(f"{template}_message.html", context))


def deliver(composed: Composed) -> None:
    """Hand an e-mail to the mail server. Raises what the backend raises."""
    message = EmailMultiAlternatives(
        composed.subject,
        composed.text,
        to=[composed.to],
        # RFC 3834: no vacation notice is wanted in return.
        headers={"Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(composed.html, "text/html")
    message.send()
