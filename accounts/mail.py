"""E-mails to people: a subject, a text and an HTML body, as sibling templates.

`templates/<template>_subject.txt`, `…_message.txt` and `…_message.html`; the bodies extend `emails/base.txt`
and `emails/base.html`.
"""

from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string


def send(*, template: str, to: str, **context: Any) -> None:
    """Send the e-mail called `template` to one address.

    Every template also knows `vendor_name`, `support_email`, `base_url`, `subject` and `email`, the address.
    """
    context |= {
        "vendor_name": settings.VENDOR_NAME,
        "support_email": settings.SUPPORT_EMAIL,
        "base_url": settings.BASE_URL,
        "email": to,
    }
    subject = " ".join(render_to_string(f"{template}_subject.txt", context).split())
    context["subject"] = subject
    message = EmailMultiAlternatives(
        subject,
        render_to_string(f"{template}_message.txt", context).strip() + "\n",
        to=[to],
        # RFC 3834: no vacation notice is wanted in return.
        headers={"Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(render_to_string(f"{template}_message.html", context), "text/html")
    message.send()
