"""Taking letters to the mail server, one worker a letter.

A worker that dies between the mail server's "yes" and our commit sends the letter a second time: mail knows no
exactly-once, so a letter must say nothing that would be wrong if it came twice.
"""

from datetime import datetime, timedelta

import structlog
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from accounts import mail
from accounts.models import Letter

log = structlog.get_logger(__name__)

ATTEMPTS = 12
# A worker not heard of for so long is taken for dead; a letter that the mail server refused waits as long.
LEASE = timedelta(minutes=10)
KEPT_FOR = timedelta(days=400)


def post(letters: QuerySet[Letter], *, now: datetime, limit: int = 500) -> int:
    """Send those of `letters` that wait and that nobody else is sending; return how many were sent."""
    free = Q(claimed_at=None) | Q(claimed_at__lt=Now() - LEASE)
    waiting = letters.filter(free, sent_at=None, attempts__lt=ATTEMPTS)
    return sum(_post(letter, free, now) for letter in waiting.order_by("id")[:limit])


def forget(*, now: datetime) -> int:
    """Delete letters of more than a year ago; return how many."""
    return Letter.objects.filter(written_at__lt=now - KEPT_FOR).delete()[0]


def _post(letter: Letter, free: Q, now: datetime) -> bool:
    claimed = Letter.objects.filter(free, pk=letter.pk, sent_at=None)
    if not claimed.update(claimed_at=Now(), attempts=F("attempts") + 1):
        return False
    try:
        mail.deliver(mail.Composed(letter.to, letter.subject, letter.text, letter.html))
    except Exception as error:  # whatever the mail server says, the other letters go on
        log.warning("letter not sent", letter_id=letter.pk, reference=letter.reference, error=type(error).__name__)
        return False
    Letter.objects.filter(pk=letter.pk).update(sent_at=now)
    log.info("letter sent", letter_id=letter.pk, reference=letter.reference)
    return True
