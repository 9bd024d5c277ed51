"""Rules that were proposed: by whom, what they would have done to the last full month, and what was decided."""

import pgtrigger
from django.conf import settings
from django.db import models

from accounts.models import Organization
from usage.models.outcomes import OutcomeRuleVersion
from usage.models.prices import PriceBook


class RuleProposal(models.Model):
    """A version of outcome rules that a member of staff proposes, before and after another one decides.

    `public_id` is minted with the form. `document` is the version as `rule_documents` reads it, without its number,
    which it gets when it is entered. `summary` is the preview over all organizations; whoever makes it holds the
    `lease` and touches the row at every step, by database time.
    """

    class State(models.TextChoices):
        PREVIEWING = "previewing", "Being previewed"
        PREVIEWED = "previewed", "Previewed, not asked for yet"
        WAITING = "waiting", "Waits for approval"
        ENTERED = "entered", "Entered"
        DECLINED = "declined", "Declined"
        WITHDRAWN = "withdrawn", "Withdrawn"
        REVOKED = "revoked", "Taken back before its start"
        FAILED = "failed", "The preview failed"

    OPEN = (State.PREVIEWING, State.PREVIEWED, State.WAITING, State.FAILED)

    public_id = models.UUIDField(unique=True, editable=False)
    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="rule_proposals")
    document = models.JSONField()
    starts_at = models.DateTimeField()
    reason = models.CharField(max_length=200, help_text="For the staff who decide, and for whoever asks later.")
    state = models.CharField(max_length=16, choices=State, default=State.PREVIEWING)
    proposed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=200, blank=True, default="")
    version = models.OneToOneField(
        OutcomeRuleVersion, null=True, on_delete=models.PROTECT, related_name="proposal", help_text="Once entered."
    )
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
        ordering = ["-id"]
        permissions = [("decide_ruleproposal", "Can approve and decline rules that others proposed")]
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="rule_proposal_has_a_reason"),
            models.CheckConstraint(
                condition=models.Q(decided_by=None) | ~models.Q(decided_by=models.F("proposed_by")),
                name="rule_proposal_is_decided_by_another",
            ),
            models.CheckConstraint(
                condition=models.Q(state="entered", decided_by__isnull=False, version__isnull=False)
                | models.Q(state="declined", decided_by__isnull=False, version=None)
                | models.Q(state="revoked", decided_by__isnull=False, version=None)
                | (~models.Q(state__in=["entered", "declined", "revoked"]) & models.Q(decided_by=None, version=None)),
                name="rule_proposal_is_entered_with_approval",
            ),
            models.CheckConstraint(
                condition=models.Q(state="revoked", revoked_by__isnull=False, revoked_at__isnull=False)
                & ~models.Q(revoked_reason="")
                | ~models.Q(state="revoked") & models.Q(revoked_by=None, revoked_at=None, revoked_reason=""),
                name="rule_proposal_is_revoked_for_a_reason",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state="previewing"), name="rule_proposal_previewing"),
            models.Index(
                fields=["id"], condition=models.Q(state="entered", is_told=False), name="rule_proposal_to_tell"
            ),
            models.Index(
                fields=["id"],
                condition=models.Q(state="revoked", is_end_told=False),
                name="rule_proposal_to_tell_of_end",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="rule_proposals_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="decided_proposals_stand",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__in=["entered", "declined", "withdrawn", "revoked"]),
                declare=[("may_change", "text[] = '{is_told,is_end_told}'")],
                func="""
                    IF OLD.state = 'entered' AND NEW.state = 'revoked' THEN
                        may_change = may_change || '{state,version_id,revoked_by_id,revoked_at,revoked_reason}'::text[];
                    END IF;
                    IF to_jsonb(OLD) - may_change <> to_jsonb(NEW) - may_change THEN
                        RAISE EXCEPTION 'rule proposal % is decided', OLD.public_id;
                    END IF;
                    RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.book} outcomes from {self.starts_at:%Y-%m-%d %H:%M} UTC"


class RuleImpact(models.Model):
    """What proposed rules would have meant for one organization's conversations of the month.

    `before` and `after` are `{outcome: [conversations, micros at list price]}`, `flips` counts changed outcomes with
    some examples. `place` is how far its conversations are judged: the start and the id of the last one.
    """

    proposal = models.ForeignKey(
        RuleProposal, on_delete=models.PROTECT, related_name="impacts", db_index=False, db_constraint=False
    )
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    conversations = models.BigIntegerField(default=0)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    flips = models.JSONField(default=dict)
    by_bucket = models.BigIntegerField(default=0, help_text="Outcomes that a bucket paid for.")
    before_micros = models.BigIntegerField(default=0)
    after_micros = models.BigIntegerField(default=0)
    change_micros = models.BigIntegerField(default=0)
    place = models.JSONField(null=True)
    is_done = models.BooleanField(default=False)
    told_at = models.DateTimeField(null=True)
    told_of_end_at = models.DateTimeField(null=True, help_text="When it was told that the rules are taken back.")

    class Meta:
        ordering = ["proposal", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "proposal"], name="rule_impact_is_one_an_organization"),
            models.CheckConstraint(
                condition=models.Q(change_micros=models.F("after_micros") - models.F("before_micros")),
                name="rule_impact_change_is_the_difference",
            ),
        ]
        indexes = [
            models.Index(fields=["proposal", "change_micros"], name="rule_impact_by_change"),
            models.Index(fields=["proposal", "id"], condition=models.Q(is_done=False), name="rule_impact_to_judge"),
        ]

    def __str__(self) -> str:
        return f"proposal {self.proposal_id} for {self.organization_id}"
