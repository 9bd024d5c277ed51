"""The outbox of e-mails: a letter is written once, with what it tells of, and sent after the commit."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from accounts import mail, queueing, tasks
from accounts.models import Letter, Membership, Organization


def write(
    *,
    template: str,
    reference: str,
    to: Iterable[str],
    now: datetime,
    organization: Organization | None = None,
    **context: Any,
) -> int:
    """Write the letter called `template` to each address, once per `reference` and address; return how many are new.

    It is composed now, from what is true now, and sent when the transaction is committed. The templates know what
    `mail.send` gives them, and `organization`.
    """
    composed = [
        mail.compose(template=template, to=address, organization=organization, **context)
        for address in dict.fromkeys(address.strip().lower() for address in to)
        if address
    ]
    known = set(Letter.objects.filter(reference=reference).values_list("to", flat=True))
    new = [each for each in composed if each.to not in known]
    Letter.objects.bulk_create(
        [
            Letter(
                organization=organization,
                reference=reference,
                to=each.to,
                subject=each.subject,
                text=each.text,
                html=each.html,
                written_at=now,
            )
            for each in new
        ],
        ignore_conflicts=True,  # another transaction wrote it first
    )
    if new:
        queueing.on_commit(tasks.send_letters_of, reference)
    return len(new)


def billing_addresses(organization: Organization) -> list[str]:
    """Return who reads about money: the invoice recipients and the billing managers; without either, the owners."""
    active = Membership.objects.filter(organization=organization, user__is_active=True).order_by("id")
    emails = active.values_list("user__email", flat=True)
    recipients = [organization.billing_email, *organization.invoice_recipients]
    managers = [*recipients, *emails.filter(role=Membership.Role.BILLING)]
    readers = [address.lower() for address in managers if address]
    return list(dict.fromkeys(readers or emails.filter(role=Membership.Role.OWNER)))
