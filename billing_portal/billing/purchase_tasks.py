"""The tasks of purchases, top-ups and renewals: ids in, one verb, safe twice.

A lost task does no harm: the sweeps find in PostgreSQL what is due.
"""

from celery import shared_task

from accounts import clock, queueing
from billing_portal.billing import bucket_renewals, purchase_payment, top_ups
from billing_portal.billing.models import Purchase, TopUp

_DEBOUNCE_SECONDS = 2


@shared_task
def advance_purchase(purchase_id: int) -> None:
    """Take one purchase as far as it can go."""
    purchase = Purchase.objects.select_related("organization").get(pk=purchase_id)
    purchase_payment.advance(purchase, now=clock.now())


@shared_task
def advance_purchases() -> None:
    """Take every purchase that is due as far as it can go."""
    purchase_payment.advance_waiting(now=clock.now())


@shared_task
def check_top_up(organization_id: int) -> None:
    """Ask for a top-up where one is due, and charge it; where it is not enough, the next check asks again."""
    now = clock.now()
    purchase = top_ups.check(organization_id, now=now)
    if purchase is not None:
        purchase_payment.advance(purchase, now=now)


@shared_task
def check_top_ups() -> None:
    """Look at every standing order; each top-up that is due is charged in a task of its own, or by the sweep."""
    now = clock.now()
    for organization_id in top_ups.organizations():
        purchase = top_ups.check_safely(organization_id, now=now)
        if purchase is not None:
            queueing.send(advance_purchase, purchase.pk)


@shared_task
def renew_buckets() -> None:
    """Give notice of terms that end, and buy what is to be renewed; each is charged in a task of its own."""
    now = clock.now()
    bucket_renewals.notify(now=now)
    for purchase in bucket_renewals.buy_due(now=now):
        queueing.send(advance_purchase, purchase.pk)


def ask_to_advance(purchase: Purchase, *, at_once: bool = False) -> None:
    """Queue the walk of a purchase on commit; a page that is looked at again and again queues it now and then."""
    if at_once or queueing.claim(f"billing.purchase.{purchase.pk}", seconds=_DEBOUNCE_SECONDS):
        queueing.on_commit(advance_purchase, purchase.pk)


def ask_to_check(organization_id: int) -> None:
    """Queue a check of the organization's standing order, if it has one."""
    if TopUp.objects.filter(organization_id=organization_id, ended_at=None).exists():
        queueing.on_commit(check_top_up, organization_id)
