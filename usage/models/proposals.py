"""What new rules and new prices have in common: proposed, previewed on a month, decided by another person, told."""

from typing import Any

import pgtrigger
from django.conf import settings
from django.db import models


class ProposalState(models.TextChoices):
    """Where a proposal is; from `entered` on it stands, but for being taken back before its start."""

    PREVIEWING = "previewing", "Being previewed"
    PREVIEWED = "previewed", "Previewed, not asked for yet"
    WAITING = "waiting", "Waits for approval"
    ENTERED = "entered", "Entered"
    DECLINED = "declined", "Declined"
    WITHDRAWN = "withdrawn", "Withdrawn"
    REVOKED = "revoked", "Taken back before its start"
    FAILED = "failed", "The preview failed"


class Proposal(models.Model):
    """A version that a member of staff proposes for a price book, before and after another one decides.

    `public_id` is minted with the form. `document` is the version as documents of its kind say it, without its number,
    which it gets when it is entered. `summary` is the preview over all organizations; whoever makes it holds the
    `lease` and touches the row at every step, by database time. A kind adds its `book` and its `version`.
    """

    State = ProposalState
    # Of each kind's own tables.
    book: Any
    book_id: int
    version: Any
    version_id: int | None
    impacts: Any

    OPEN = (State.PREVIEWING, State.PREVIEWED, State.WAITING, State.FAILED)

    public_id = models.UUIDField(unique=True, editable=False)
    document = models.JSONField()
    starts_at = models.DateTimeField()
    reason = models.CharField(max_length=200, help_text="For the staff who decide, and for whoever asks later.")
    state = models.CharField(max_length=16, choices=ProposalState, default=ProposalState.PREVIEWING)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=200, blank=True, default="")
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    revoked_at = models.DateTimeField(null=True)
    revoked_reason = models.CharField(max_length=200, blank=True, default="", help_text="For customers to read.")
    month = models.DateField(help_text="The full month that the preview is of.")
    summary = models.JSONField(null=True)
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When a worker last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    is_told = models.BooleanField(default=False, help_text="Every customer concerned was written to.")
    is_end_told = models.BooleanField(default=False, help_text="Everyone told of it was told that it is taken back.")

    class Meta:
        abstract = True


def constraints(kind: str) -> list[models.BaseConstraint]:
    """Return what holds for every proposal of a kind, named by it: a second person decides, with a reason each."""
    return [
        models.CheckConstraint(condition=~models.Q(reason=""), name=f"{kind}_has_a_reason"),
        models.CheckConstraint(
            condition=models.Q(decided_by=None) | ~models.Q(decided_by=models.F("proposed_by")),
            name=f"{kind}_is_decided_by_another",
        ),
        models.CheckConstraint(
            condition=models.Q(state="entered", decided_by__isnull=False, version__isnull=False)
            | models.Q(state="declined", decided_by__isnull=False, version=None)
            | models.Q(state="revoked", decided_by__isnull=False, version=None)
            | (~models.Q(state__in=["entered", "declined", "revoked"]) & models.Q(decided_by=None, version=None)),
            name=f"{kind}_is_entered_with_approval",
        ),
        models.CheckConstraint(
            condition=models.Q(state="revoked", revoked_by__isnull=False, revoked_at__isnull=False)
            & ~models.Q(revoked_reason="")
            | ~models.Q(state="revoked") & models.Q(revoked_by=None, revoked_at=None, revoked_reason=""),
            name=f"{kind}_is_revoked_for_a_reason",
        ),
    ]


def indexes(kind: str) -> list[models.Index]:
    """Return what the sweeps look for: previews to make, and customers to tell."""
    return [
        models.Index(fields=["id"], condition=models.Q(state="previewing"), name=f"{kind}_previewing"),
        models.Index(fields=["id"], condition=models.Q(state="entered", is_told=False), name=f"{kind}_to_tell"),
        models.Index(
            fields=["id"], condition=models.Q(state="revoked", is_end_told=False), name=f"{kind}_to_tell_of_end"
        ),
    ]


def triggers(kind: str) -> list[pgtrigger.Trigger]:
    """Return what keeps proposals, and what was decided of them, but for being taken back."""
    return [
        pgtrigger.Protect(name=f"{kind}s_are_kept", operation=pgtrigger.Delete),
        pgtrigger.Trigger(
            name="decided_proposals_stand",
            when=pgtrigger.Before,
            operation=pgtrigger.Update,
            condition=pgtrigger.Q(old__state__in=["entered", "declined", "withdrawn", "revoked"]),
            declare=[("may_change", "text[] = '{is_told,is_end_told}'")],
            func=f"""
                    IF OLD.state = 'entered' AND NEW.state = 'revoked' THEN
                        may_change = may_change || '{{state,version_id}}'::text[]
                            || '{{revoked_by_id,revoked_at,revoked_reason}}'::text[];
                    END IF;
                    IF to_jsonb(OLD) - may_change <> to_jsonb(NEW) - may_change THEN
                        RAISE EXCEPTION '{kind.replace("_", " ")} % is decided', OLD.public_id;
                    END IF;
                    RETURN NEW;
                """,
        ),
    ]
