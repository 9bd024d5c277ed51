"""Buckets: outcomes bought for a term, and what was taken from them."""

import uuid

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from usage.models import OutcomeType
from usage.outcomes.naming import noun_of


class Bucket(models.Model):
    """A number of outcomes bought for a term. `remaining_units` is a cache that `verify_ledger` proves."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="buckets", db_index=False)
    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    outcomes = ArrayField(models.CharField(max_length=24, choices=OutcomeType), help_text="What it pays for.")
    size = models.PositiveIntegerField()
    remaining_units = models.IntegerField()
    claimed_units = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Taken out because their payment is disputed or went back."
    )
    price_micros = models.BigIntegerField(help_text="What it cost, without tax.")
    currency = models.CharField(max_length=3)
    starts_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    replaces = models.ForeignKey(
        "self",
        null=True,
        on_delete=models.PROTECT,
        db_constraint=False,
        db_index=False,
        related_name="replaced_by",
        help_text="The smaller bucket in whose place it stands for the rest of the term.",
    )
    checked_units = models.IntegerField(null=True, help_text="What was left when its alerts were checked.")
    reference = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "expires_at", "created_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="bucket_is_its_organizations"),
            models.UniqueConstraint(fields=["organization", "reference"], name="bucket_reference_is_unique"),
            SameOrganization(field="replaces", name="bucket_replaces_its_own_organizations"),
            models.CheckConstraint(
                condition=models.Q(replaces=None) | ~models.Q(replaces=models.F("id")), name="bucket_replaces_another"
            ),
            models.CheckConstraint(
                condition=models.Q(remaining_units__gte=0)
                & models.Q(remaining_units__lte=models.F("size") - models.F("claimed_units")),
                name="bucket_holds_between_nothing_and_its_size",
            ),
            models.CheckConstraint(condition=models.Q(size__gt=0), name="bucket_size_is_positive"),
            models.CheckConstraint(condition=models.Q(price_micros__gte=0), name="bucket_price_is_not_negative"),
            models.CheckConstraint(
                condition=models.Q(expires_at__gt=models.F("starts_at")), name="bucket_ends_after_it_starts"
            ),
            models.CheckConstraint(condition=~models.Q(outcomes=[]), name="bucket_pays_for_something"),
        ]
        indexes = [
            models.Index(
                fields=["organization", "expires_at", "created_at", "id"],
                condition=models.Q(remaining_units__gt=0),
                name="bucket_in_burn_order",
            ),
            models.Index(
                fields=["organization", "replaces"],
                condition=models.Q(replaces__isnull=False),
                name="bucket_by_what_it_replaces",
            ),
            models.Index(
                fields=["organization"],
                condition=models.Q(checked_units=None) | ~models.Q(checked_units=models.F("remaining_units")),
                name="bucket_with_alerts_to_check",
            ),
            models.Index(fields=["expires_at"], condition=models.Q(remaining_units__gt=0), name="bucket_running_out"),
        ]

    def __str__(self) -> str:
        return f"{self.remaining_units} of {self.size} until {self.expires_at:%Y-%m-%d}"

    @property
    def noun(self) -> str:
        """What its units are."""
        return noun_of(self.outcomes)

    @property
    def used_units(self) -> int:
        """How many of its units are used or expired."""
        return self.size - self.claimed_units - self.remaining_units


class BucketEntry(models.Model):
    """Units that came into a bucket or left it; insert-only. A settlement's are named by its reference."""

    class Kind(models.TextChoices):
        BOUGHT = "bought", "Bought"
        USED = "used", "Used"
        RETURNED = "returned", "Given back"
        EXPIRED = "expired", "Expired"
        CARRIED = "carried", "Carried over"
        CLAIMED = "claimed", "Payment disputed or gone back"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.ForeignKey(Bucket, on_delete=models.PROTECT, db_constraint=False, related_name="entries")
    kind = models.CharField(max_length=16, choices=Kind)
    units = models.IntegerField(help_text="Positive into the bucket.")
    claim = models.ForeignKey(
        "ledger.BucketClaim",
        null=True,
        on_delete=models.PROTECT,
        db_constraint=False,
        db_index=False,
        related_name="entries",
        help_text="Of the payment for which units were taken out.",
    )
    reference = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "bucket entries"
        ordering = ["organization", "bucket", "id"]
        constraints = [
            SameOrganization(field="bucket", name="bucket_entry_is_of_its_own_bucket"),
            models.UniqueConstraint(fields=["organization", "reference"], name="bucket_entry_reference_is_unique"),
            models.CheckConstraint(condition=~models.Q(units=0), name="bucket_entry_is_not_zero"),
            models.CheckConstraint(
                condition=models.Q(kind__in=["bought", "returned"], units__gt=0)
                | models.Q(kind__in=["used", "expired"], units__lt=0)
                | models.Q(kind__in=["carried", "claimed"]),
                name="bucket_entry_has_its_sign",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="claimed", claim__isnull=False)
                | (~models.Q(kind="claimed") & models.Q(claim=None)),
                name="bucket_entry_names_its_claim",
            ),
            SameOrganization(field="claim", name="bucket_entry_is_of_its_own_claim"),
        ]
        indexes = [
            models.Index(
                fields=["organization", "claim"],
                condition=models.Q(claim__isnull=False),
                name="bucket_entry_by_claim",
            ),
        ]
        triggers = [pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.kind} {self.units}"
