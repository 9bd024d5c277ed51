"""Glue between the broker and usage: one verb, safe twice, bounded. What a lost task left, the next one finds."""

import time

from celery import shared_task
from django.conf import settings

from accounts import clock, queueing
from usage import (
    backlog,
    batches,
    completeness,
    imports,
    ingestion,
    intake_log,
    metadata_usage,
    partitions,
    price_impacts,
    retell,
)
from usage.backfills import work as backfill_work
from usage.comparisons import jobs as comparisons
from usage.exports import jobs
from usage.outcomes import charging, impacts, recording
from usage.what_if import jobs as what_ifs

_BATCH = 1000
_COUNT_SECONDS = 60.0
_BATCHES = 100
_PREVIEW_SECONDS = 60.0
_IMPORT_SECONDS, _PAUSE_SECONDS = 240.0, 2.0
_BACKFILL_SECONDS = 14.0  # a second less than its turn, so that a worker or two are at it and no more


@shared_task
def rate_unrated() -> None:
    """Rate the calls whose price has arrived, in batches, each a transaction of its own."""
    now = clock.now()
    for _ in range(_BATCHES):
        if ingestion.rate_unrated(now=now, limit=_BATCH) < _BATCH:
            return


@shared_task
def record_held_calls() -> None:
    """Record the calls of webhooks that are complete, in batches, each a transaction of its own."""
    now = clock.now()
    for _ in range(_BATCHES):
        if retell.record_due(now=now) < retell.BATCH:
            return


@shared_task
def charge_outcomes() -> None:
    """Charge the outcomes that have become final, each organization in a task, and judge what waited for rules."""
    now = clock.now()
    for organization_id in charging.organizations_due(now=now):
        queueing.send(charge_outcomes_of, organization_id)
    for _ in range(_BATCHES):
        if recording.judge_unruled(now=now) < recording.MAX_ITEMS:
            return


@shared_task
def charge_outcomes_of(organization_id: int) -> None:
    """Charge the outcomes of one organization that have become final, in batches."""
    now = clock.now()
    for _ in range(_BATCHES):
        if charging.charge_due(organization_id, now=now) < charging.BATCH:
            return


@shared_task
def attach_months() -> None:
    """Make the tables of the months to come, and put away those that are no longer kept at hand."""
    now = clock.now()
    partitions.attach_ahead(now)
    if settings.CALL_MONTHS_KEPT is not None:
        partitions.archive(now, months_kept=settings.CALL_MONTHS_KEPT)


@shared_task
def compact_months() -> None:
    """Build the loose indexes of months that are over anew."""
    partitions.compact(clock.now())


@shared_task
def fold_sequences() -> None:
    """Merge the numbers that arrived into their sources' ranges."""
    for _ in range(_BATCHES):
        if completeness.fold(limit=_BATCH) < _BATCH:
            return


@shared_task
def prune_intake() -> None:
    """Forget what arrived long ago and changed nothing."""
    now = clock.now()
    for _ in range(_BATCHES):
        if not intake_log.prune(now=now) + batches.prune(now=now):
            return


@shared_task
def expire_exports() -> None:
    """Remove exported files whose time is over, and what was left by those that were never finished."""
    jobs.expire(now=clock.now())


@shared_task
def record_import(job_id: int) -> None:
    """Go on with an import, and ask for the next part of it, since a task must not last for long."""
    job = imports.run(job_id, clock=clock.now, seconds=_IMPORT_SECONDS)
    if job is not None and job.is_under_way:
        queueing.send(record_import, job_id, countdown=_PAUSE_SECONDS)


@shared_task
def continue_imports() -> None:
    """Go on with the imports that nobody records."""
    for job_id in imports.abandoned(limit=100):
        queueing.send(record_import, job_id)


@shared_task
def forget_imports() -> None:
    """Remove imports of long ago, and files that were left."""
    imports.forget(now=clock.now())


@shared_task
def count_metadata(key_id: int) -> None:
    """Go on with the sums of one key, and ask for the next part of it, since a task must not last for long."""
    stop_at = time.monotonic() + _COUNT_SECONDS
    while metadata_usage.count(key_id):
        if time.monotonic() > stop_at:
            queueing.send(count_metadata, key_id)
            return


@shared_task
def count_metadata_behind() -> None:
    """Add what has been settled to the sums of all keys that lack it."""
    for key_id in metadata_usage.behind(limit=_BATCH):
        queueing.send(count_metadata, key_id)


@shared_task
def rate_what_if(what_if_id: int) -> None:
    """Rate one month of a what-if, and ask for the next one, since a task must not last for long."""
    rated = what_ifs.run(what_if_id, clock=clock.now, most_months=1)
    if rated is not None and rated.is_under_way:
        queueing.send(rate_what_if, what_if_id)


@shared_task
def continue_what_ifs() -> None:
    """Take up what-ifs that were not queued, or whose worker is gone."""
    for what_if_id in what_ifs.abandoned(limit=50):
        queueing.send(rate_what_if, what_if_id)


@shared_task
def forget_what_ifs() -> None:
    """Remove what-ifs whose time is over."""
    what_ifs.forget(now=clock.now())


@shared_task
def preview_rules(proposal_id: int) -> None:
    """Go on with the preview of proposed rules, and ask for the next part, since a task must not last for long."""
    proposal = impacts.run(proposal_id, clock=time.monotonic, seconds=_PREVIEW_SECONDS)
    if proposal is not None and proposal.state == proposal.State.PREVIEWING:
        queueing.send(preview_rules, proposal_id)


@shared_task
def continue_rule_previews() -> None:
    """Take up previews that were not queued, or whose worker is gone."""
    for proposal_id in impacts.abandoned(limit=50):
        queueing.send(preview_rules, proposal_id)


@shared_task
def preview_prices(proposal_id: int) -> None:
    """Go on with the preview of proposed prices, and ask for the next part, since a task must not last for long."""
    proposal = price_impacts.run(proposal_id, clock=time.monotonic, seconds=_PREVIEW_SECONDS)
    if proposal is not None and proposal.state == proposal.State.PREVIEWING:
        queueing.send(preview_prices, proposal_id)


@shared_task
def continue_price_previews() -> None:
    """Take up previews that were not queued, or whose worker is gone."""
    for proposal_id in price_impacts.abandoned(limit=50):
        queueing.send(preview_prices, proposal_id)


@shared_task
def continue_backfills() -> None:
    """Go on with the backfills that are counted or running until the next turn, unless settlement is behind."""
    until = time.monotonic() + _BACKFILL_SECONDS
    while time.monotonic() < until and not backlog.is_too_long(most_calls=settings.API_MOST_WAITING_CALLS):
        if not backfill_work.go_on(now=clock.now()):
            return


@shared_task(time_limit=3600)
def compare(comparison_id: int) -> None:
    """Compare a customer's log with ours."""
    comparisons.run(comparison_id, clock=clock.now)


@shared_task
def continue_comparisons() -> None:
    """Take up comparisons that were not queued, or whose worker is gone."""
    for comparison_id in comparisons.abandoned(limit=50):
        queueing.send(compare, comparison_id)


@shared_task
def forget_comparisons() -> None:
    """Remove the files of comparisons whose time is over."""
    comparisons.forget(now=clock.now())
