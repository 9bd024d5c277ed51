"""Glue between the broker and the outbox of letters. A lost task does no harm: the sweep finds what waits."""

from celery import shared_task

from accounts import clock, posting
from accounts.models import Letter


@shared_task
def send_letters_of(reference: str) -> None:
    """Send the letters of one reference."""
    posting.post(Letter.objects.filter(reference=reference), now=clock.now())


@shared_task
def send_letters() -> None:
    """Send what waits, whoever wrote it."""
    posting.post(Letter.objects.all(), now=clock.now())


@shared_task
def forget_letters() -> None:
    """Delete what nobody needs any more."""
    posting.forget(now=clock.now())
