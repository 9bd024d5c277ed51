"""What Stripe's meters are told: settlements become reports, each told once.

Reports are an outbox: written under the account's lock, sent later. A settlement has one `ReportedSettlement`, so it is
in one batch; a report keeps its identifier and its minute whatever happens to an attempt, so it counts once (I4).
"""

import random
import time
from datetime import date, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, QuerySet, Subquery, Sum

from billing_portal.billing import cycles, gateway, intents, locks, meter_sums, subscription_items
from billing_portal.billing.models import (
    Customer,
    Invoice,
    Meter,
    Report,
    ReportBatch,
    ReportedSettlement,
    SubscriptionItem,
)
from billing_portal.ledger import accounts
from billing_portal.ledger.models import Account, Settlement, SettlementLine

log = structlog.get_logger(__name__)

# Usage waits at most this long for its report, so that a month has few enough reports for a minute each.
BATCH_EVERY = timedelta(minutes=10)
# Stripe remembers an identifier for at least 24 hours (docs): after 23 we ask what its minute holds before repeating.
UNCERTAIN_AFTER = timedelta(hours=23)
# Stripe takes timestamps of the past 35 days (docs); an hour of that is left to clocks that disagree.
OLDEST = timedelta(days=35) - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ATTEMPTS = 4

FINISHED = (Report.State.ACCEPTED, Report.State.REJECTED)


def reports_of(organization_id: int, month: date) -> QuerySet[Report]:
    """Return the reports of a month, whatever became of them."""
    return Report.objects.filter(organization_id=organization_id, batch__month=month)


def unaccepted(organization_id: int, month: date) -> QuerySet[Report]:
    """Return the reports of a month that Stripe has not accepted, or not yet."""
    return reports_of(organization_id, month).exclude(state=Report.State.ACCEPTED)


def reported(organization_id: int, month: date) -> dict[str, int]:
    """Return the micros of a month's reports by component; components without any are absent."""
    sums = reports_of(organization_id, month).order_by("component").values_list("component").annotate(Sum("micros"))
    return {component: int(micros) for component, micros in sums}


# ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_reports(organization_id: int, *, now: datetime) -> int:
    """Put settlements not yet reported, of months that Stripe counts by now, into batches; return the reports made.

    Nothing is written before the organization has a subscription, nor after its customer was deleted at Stripe: it
    would not be billed, and `reconciliation.unbilled` names it.
    """
    with transaction.atomic():
        accounts.lock(organization_id)
        known = Customer.objects.filter(organization_id=organization_id, deleted_at=None)
        customer = known.filter(subscribed_at__isnull=False).first()
        if customer is None:
            return 0
        waiting: dict[date, list[int]] = {}
        for settlement_id, month in _unreported(organization_id, now=now).values_list("pk", "month"):
            waiting.setdefault(month, []).append(settlement_id)
        return sum(
            _write_batch(customer, month, ids, now=now)
            for month, ids in sorted(waiting.items())
            if _can_be_billed(customer, month)
        )


def unreported_organizations(*, now: datetime, limit: int) -> list[int]:
    """Return organizations whose newest settlement waits for a report and that wrote no batch in the last ten minutes.

    One index probe an account. Older settlements that wait behind a reported one (kept back while their month's period
    had not begun) are found by `write_reports`, at the latest when the month is invoiced.
    """
    newest = Settlement.objects.filter(organization_id=OuterRef("organization_id")).order_by("-last_sequence")
    batches = ReportBatch.objects.filter(
        organization_id=OuterRef("organization_id"), created_at__gt=now - BATCH_EVERY, created_at__lte=now
    )
    accounts_due = (
        Account.objects.filter(last_sequence__gt=0, frozen_at=None)
        .annotate(newest_id=Subquery(newest.values("pk")[:1]), newest_month=Subquery(newest.values("month")[:1]))
        .filter(~Exists(ReportedSettlement.objects.filter(settlement_id=OuterRef("newest_id"))))
        .filter(~Exists(batches), newest_month__lte=cycles.month_at(now))
        .order_by("organization_id")
    )
    return list(accounts_due.values_list("organization_id", flat=True)[:limit])


def _unreported(organization_id: int, *, now: datetime) -> QuerySet[Settlement]:
    """Return settlements in no batch, of months whose period has begun and whose invoice is not final."""
    finalized = Invoice.objects.filter(organization_id=organization_id, month__isnull=False)
    finalized = finalized.exclude(state__in=[Invoice.State.DRAFT, Invoice.State.VOID])
    return (
        Settlement.objects.filter(organization_id=organization_id, reported=None, month__lte=cycles.month_at(now))
        .exclude(month__in=finalized.values("month"))
        .order_by("first_sequence")
    )


def _can_be_billed(customer: Customer, month: date) -> bool:
    """Say whether Stripe's period of `month` reaches past the start of the subscription."""
    _, ends_at = cycles.bounds(month)
    possible = customer.subscribed_at is not None and customer.subscribed_at < ends_at - MINUTE
    if not possible:
        log.error("usage from before the subscription", organization_id=customer.organization_id, month=str(month))
    return possible


def _write_batch(customer: Customer, month: date, settlement_ids: list[int], *, now: datetime) -> int:
    organization = customer.organization
    batch = ReportBatch.objects.create(organization=organization, month=month, created_at=now)
    ReportedSettlement.objects.bulk_create(
        (
            ReportedSettlement(organization=organization, settlement_id=settlement_id, batch=batch)
            for settlement_id in settlement_ids
        ),
        batch_size=5_000,
    )
    lines = SettlementLine.objects.filter(settlement__reported__batch=batch).order_by("component")
    reports = [
        Report(
            organization=organization,
            batch=batch,
            component=component,
            micros=micros,
            identifier=f"rep_{organization.public_id.hex}_{batch.pk}_{component}",
        )
        for component, micros in lines.values_list("component").annotate(Sum("gross_micros"))
        if micros > 0
    ]
    Report.objects.bulk_create(reports)
    log.info(
        "reports written", organization_id=organization.pk, batch_id=batch.pk, month=str(month), reports=len(reports)
    )
    return len(reports)


# ── Sending ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def send_reports(*, now: datetime, limit: int = 1_000, organization_id: int | None = None) -> int:
    """Send up to `limit` waiting reports, the oldest first; return how many Stripe accepted.

    At most one is in flight for a customer and meter, in all processes together. What cannot be sent now stays and is
    repeated by the next call with the same identifier and minute.
    """
    waiting = Report.objects.exclude(state__in=FINISHED)
    if organization_id is not None:
        waiting = waiting.filter(organization_id=organization_id)
    queues = waiting.values("organization_id", "component").annotate(first_id=Min("id")).order_by("first_id")
    accepted = 0
    for queue in queues[:limit]:
        with locks.attempt(f"report:{queue['organization_id']}:{queue['component']}") as held:
            if held and accepted < limit:
                accepted += _send_queue(queue["organization_id"], queue["component"], limit - accepted, now=now)
    return accepted


def resend(report: Report) -> None:
    """Let a rejected report be sent again: Stripe refused it, so nothing is known under its identifier or minute."""
    Report.objects.filter(pk=report.pk, state=Report.State.REJECTED).update(
        state=Report.State.WAITING, minute_at=None, sent_at=None, error=None
    )


def _send_queue(organization_id: int, component: str, limit: int, *, now: datetime) -> int:
    """Send the reports of one customer and meter in order, until one of them cannot be settled now."""
    queue = Report.objects.filter(organization_id=organization_id, component=component).exclude(state__in=FINISHED)
    customer = Customer.objects.get(organization_id=organization_id)
    item = _item(customer, component, now=now)
    if item is None:
        return 0
    meter = Meter.objects.get(component=component)
    sent = 0
    for report_id in list(queue.order_by("id").values_list("pk", flat=True)[:limit]):
        report = _claim(report_id, customer, item, now=now)
        if report is None or not _deliver(report, customer, meter, now=now):
            break
        sent += report.state == Report.State.ACCEPTED
    return sent


def _item(customer: Customer, component: str, *, now: datetime) -> SubscriptionItem | None:
    """Return the item that bills a component; None while Stripe does not have it: its reports wait."""
    try:
        return subscription_items.ensure(customer, component, now=now)
    except (gateway.Failed, intents.OutcomeUnknown) as error:
        log.error(
            "no item for reports", organization_id=customer.organization_id, component=component, error=str(error)
        )
        return None


def _claim(report_id: int, customer: Customer, item: SubscriptionItem, *, now: datetime) -> Report | None:
    """Commit that the report is about to be sent, with its minute; None if it needs a minute that is yet to come."""
    with transaction.atomic():
        report = Report.objects.select_for_update().select_related("batch").get(pk=report_id)
        if report.minute_at is None:
            report.minute_at = free_minute(report, customer, item, now=now)
        if report.minute_at is None:
            return None
        report.state = Report.State.SENDING
        report.attempts += 1
        report.sent_at = report.sent_at or now
        report.save(update_fields=["state", "attempts", "sent_at", "minute_at"])
    return report


def free_minute(report: Report, customer: Customer, item: SubscriptionItem, *, now: datetime) -> datetime | None:
    """Return the latest minute, not after `now`, that no other report of the customer and meter has.

    It lies in Stripe's period of the report's month, after the subscription and its item began and within Stripe's 35
    days.
    """
    assert customer.subscribed_at is not None
    starts_at, ends_at = cycles.bounds(report.batch.month)
    earliest = max(starts_at, customer.subscribed_at, item.added_at, now - OLDEST)
    candidate = min(_floor(now), ends_at - MINUTE)
    taken = Report.objects.filter(
        organization_id=report.organization_id, component=report.component, minute_at__lte=candidate
    )
    for minute_at in taken.order_by("-minute_at").values_list("minute_at", flat=True).iterator(chunk_size=500):
        if minute_at is None or minute_at < candidate:
            break
        candidate -= MINUTE
    return candidate if candidate >= earliest else None


def _floor(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _deliver(report: Report, customer: Customer, meter: Meter, *, now: datetime) -> bool:
    """Send a claimed report; True when its fate is known. Unknown, it stays SENDING and is repeated as it is."""
    assert report.sent_at is not None
    try:
        known = report.sent_at <= now - UNCERTAIN_AFTER and _is_counted(report, customer, meter)
        if not known:
            _post(report, customer, meter)
    except (gateway.Unavailable, gateway.RateLimited) as error:
        log.warning("report not settled", report_id=report.pk, attempts=report.attempts, error=str(error))
        return False
    except gateway.Refused as error:
        if not is_known_already(error):
            return _reject(report, {"code": error.code, "message": str(error)})
    report.state = Report.State.ACCEPTED
    Report.objects.filter(pk=report.pk).update(state=report.state, accepted_at=now, error=None)
    return True


def _post(report: Report, customer: Customer, meter: Meter) -> None:
    """Post the meter event; when Stripe is over its rate limit, back off with jitter a few times."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            assert report.minute_at is not None
            gateway.create_meter_event(
                event_name=meter.event_name,
                customer=customer.stripe_customer_id,
                value=report.micros,
                identifier=report.identifier,
                timestamp=int(report.minute_at.timestamp()),
            )
        except gateway.RateLimited:
            if attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - jitter, not a secret
        else:
            return


def is_known_already(error: gateway.Refused) -> bool:
    """Say whether Stripe refused a meter event because it has one with this identifier: our first attempt arrived."""
    codes = {"duplicate_meter_event", "resource_already_exists"}
    return error.code in codes or "already exists with identifier" in str(error)


def _is_counted(report: Report, customer: Customer, meter: Meter) -> bool:
    """Ask the summary of the report's own minute, which holds no other event, whether an old attempt was counted."""
    assert report.minute_at is not None
    return meter_sums.counted(meter, customer, report.minute_at, report.minute_at + MINUTE) == report.micros


def _reject(report: Report, error: dict[str, object]) -> bool:
    report.state = Report.State.REJECTED
    Report.objects.filter(pk=report.pk).update(state=report.state, error=error)
    log.error("report rejected", report_id=report.pk, organization_id=report.organization_id, code=error["code"])
    return True
