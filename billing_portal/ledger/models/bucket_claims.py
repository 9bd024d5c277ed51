"""What became of the payment behind a bucket, as far as some of it went back or may have to."""

from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.ledger.models.buckets import Bucket


class BucketClaim(models.Model):
    """How many units of a bucket its payment does not stand for any more: one row a bucket that was paid for.

    It says where things stand; what was taken for it are entries, what is owed for it is in the journal.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.ForeignKey(
        Bucket,
        on_delete=models.PROTECT,
        db_constraint=False,
        related_name="claims",
        help_text="In which the units were bought; they may have been carried into a larger one.",
    )
    bought_units = models.PositiveIntegerField()
    paid_micros = models.BigIntegerField(help_text="For those units, before tax.")
    claimed_units = models.PositiveIntegerField(default=0, help_text="Whose payment went back for good.")
    held_units = models.PositiveIntegerField(default=0, help_text="Those, and the ones whose payment is disputed.")
    owed_units = models.PositiveIntegerField(default=0, help_text="Whose payment went back after they were used.")
    changes = models.PositiveIntegerField(default=0, help_text="Numbers what was posted for it.")
    reason = models.CharField(max_length=200, help_text="For the customer to read.")
    changed_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "bucket"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="bucket_claim_is_its_organizations"),
            models.UniqueConstraint(fields=["organization", "bucket"], name="bucket_claim_is_one_a_bucket"),
            SameOrganization(field="bucket", name="bucket_claim_is_of_its_own_bucket"),
            models.CheckConstraint(
                condition=models.Q(bought_units__gt=0, paid_micros__gt=0), name="bucket_claim_is_of_a_payment"
            ),
            models.CheckConstraint(
                condition=models.Q(claimed_units__lte=models.F("held_units"))
                & models.Q(held_units__lte=models.F("bought_units"))
                & models.Q(owed_units__lte=models.F("claimed_units")),
                name="bucket_claim_is_within_what_was_bought",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.claimed_units} of {self.bought_units} claimed, {self.held_units} held"

    @property
    def is_whole(self) -> bool:
        """Say whether nothing of the payment is certain."""
        return self.held_units == self.bought_units
