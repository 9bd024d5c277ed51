"""Prices of calls that were proposed, and what they would have done to the last full month."""

from django.db import models

from accounts.models import Organization
from usage.models import proposals
from usage.models.prices import PriceBook, PriceVersion
from usage.models.proposals import Proposal


class PriceProposal(Proposal):
    """A version of prices that is proposed; `document` is as `price_documents` reads one version."""

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="price_proposals")
    version = models.OneToOneField(
        PriceVersion, null=True, on_delete=models.PROTECT, related_name="proposal", help_text="Once entered."
    )

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_priceproposal", "Can approve and decline prices that others proposed")]
        constraints = proposals.constraints("price_proposal")
        indexes = proposals.indexes("price_proposal")
        triggers = proposals.triggers("price_proposal")

    def __str__(self) -> str:
        return f"{self.book} from {self.starts_at:%Y-%m-%d %H:%M} UTC"


class PriceImpact(models.Model):
    """What proposed prices would have meant for one organization's calls of the month.

    `before` and `after` are micros by component. `kept_calls` stay as they were charged: the proposed prices lack one
    of their products.
    """

    proposal = models.ForeignKey(
        PriceProposal, on_delete=models.PROTECT, related_name="impacts", db_index=False, db_constraint=False
    )
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    calls = models.BigIntegerField(default=0)
    kept_calls = models.BigIntegerField(default=0)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    before_micros = models.BigIntegerField(default=0)
    after_micros = models.BigIntegerField(default=0)
    change_micros = models.BigIntegerField(default=0)
    is_done = models.BooleanField(default=False)
    told_at = models.DateTimeField(null=True)
    told_of_end_at = models.DateTimeField(null=True, help_text="When it was told that the prices are taken back.")

    class Meta:
        ordering = ["proposal", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "proposal"], name="price_impact_is_one_an_organization"),
            models.CheckConstraint(
                condition=models.Q(change_micros=models.F("after_micros") - models.F("before_micros")),
                name="price_impact_change_is_the_difference",
            ),
        ]
        indexes = [
            models.Index(fields=["proposal", "change_micros"], name="price_impact_by_change"),
            models.Index(fields=["proposal", "id"], condition=models.Q(is_done=False), name="price_impact_to_rate"),
        ]

    def __str__(self) -> str:
        return f"proposal {self.proposal_id} for {self.organization_id}"

    @property
    def counted(self) -> int:
        """How many calls were rated anew."""
        return self.calls
