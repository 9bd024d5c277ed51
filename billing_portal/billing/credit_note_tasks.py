"""The tasks of credit notes: ids in, one verb, safe twice; the sweep finds in PostgreSQL what was lost."""

from celery import shared_task

from accounts import clock, queueing
from billing_portal.billing import credit_note_issuing
from billing_portal.billing.models import CreditNote


@shared_task
def issue_credit_note(note_id: int) -> None:
    """Make one credit note at Stripe."""
    note = CreditNote.objects.select_related("organization", "invoice").get(pk=note_id)
    credit_note_issuing.issue(note, now=clock.now())


@shared_task
def issue_credit_notes() -> None:
    """Make every credit note that waits."""
    credit_note_issuing.issue_waiting(now=clock.now())


def ask_to_issue(note: CreditNote) -> None:
    """Queue the making of a credit note on commit."""
    if note.due_at is not None:
        queueing.on_commit(issue_credit_note, note.pk)
