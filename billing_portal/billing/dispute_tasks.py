"""Glue between the broker and disputes."""

from celery import shared_task

from accounts import clock
from billing_portal.billing.disputes import cases


@shared_task
def remind_of_disputes() -> None:
    """Tell staff of answers that are late."""
    cases.remind(now=clock.now())
