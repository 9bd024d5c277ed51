"""Rules that were proposed, and what they would have done to the last full month."""

from django.db import models

from accounts.models import Organization
from usage.models import proposals
from usage.models.outcomes import OutcomeRuleVersion
from usage.models.prices import PriceBook
from usage.models.proposals import Proposal


class RuleProposal(Proposal):
    """A version of outcome rules that is proposed; `document` is as `rule_documents` reads it."""

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="rule_proposals")
    version = models.OneToOneField(
        OutcomeRuleVersion, null=True, on_delete=models.PROTECT, related_name="proposal", help_text="Once entered."
    )

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_ruleproposal", "Can approve and decline rules that others proposed")]
        constraints = proposals.constraints("rule_proposal")
        indexes = proposals.indexes("rule_proposal")
        triggers = proposals.triggers("rule_proposal")

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

    @property
    def counted(self) -> int:
        """How many conversations were judged anew."""
        return self.conversations
