"""Buckets on sale, a larger size being an offer of its own; and which bucket is bought again when its term ends."""

import uuid

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.ledger.models import Bucket
from usage.models import OutcomeType
from usage.money import round_half_up
from usage.outcomes.naming import noun_of


class BucketOffer(models.Model):
    """A bucket that can be bought from `starts_at` until `ends_at`, in one currency.

    A new price is a new row under the same `code`, which takes its place from its own start on. What somebody asked for
    is never edited (trigger), except that its sale can end.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    code = models.SlugField(max_length=64, help_text="Names the offer through all its prices, as resolutions-5000.")
    currency = models.CharField(max_length=3)
    outcomes = ArrayField(models.CharField(max_length=24, choices=OutcomeType), help_text="What it pays for.")
    size = models.PositiveIntegerField(help_text="Outcomes.")
    price_micros = models.BigIntegerField(help_text="Before tax.")
    term_months = models.PositiveSmallIntegerField(default=12)
    starts_at = models.DateTimeField(help_text="On sale from then on.")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="No more on sale from then on.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["currency", "outcomes", "size", "starts_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["code", "currency", "starts_at"], name="bucket_offer_is_one_an_instant"),
            models.CheckConstraint(condition=models.Q(size__gt=0), name="bucket_offer_size_is_positive"),
            models.CheckConstraint(condition=models.Q(price_micros__gt=0), name="bucket_offer_price_is_positive"),
            models.CheckConstraint(
                condition=models.Q(term_months__gte=1, term_months__lte=60), name="bucket_offer_term_is_sane"
            ),
            models.CheckConstraint(condition=~models.Q(outcomes=[]), name="bucket_offer_pays_for_something"),
            models.CheckConstraint(
                condition=models.Q(ends_at=None) | models.Q(ends_at__gte=models.F("starts_at")),
                name="bucket_offer_ends_after_it_starts",
            ),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="bought_bucket_offer_is_kept",
                when=pgtrigger.Before,
                operation=pgtrigger.Update | pgtrigger.Delete,
                func="""
                    IF EXISTS (SELECT FROM billing_purchase WHERE offer_id = OLD.id) AND (
                        TG_OP = 'DELETE'
                        OR (OLD.code, OLD.currency, OLD.outcomes, OLD.size, OLD.price_micros, OLD.term_months,
                            OLD.starts_at)
                           IS DISTINCT FROM
                           (NEW.code, NEW.currency, NEW.outcomes, NEW.size, NEW.price_micros, NEW.term_months,
                            NEW.starts_at)
                    ) THEN
                        RAISE EXCEPTION 'An offer that was bought is kept; only its sale can end.';
                    END IF;
                    RETURN COALESCE(NEW, OLD);
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.code} in {self.currency} from {self.starts_at:%Y-%m-%d}"

    @property
    def noun(self) -> str:
        """What its units are."""
        return noun_of(self.outcomes)

    @property
    def term(self) -> str:
        """How long its units can be used."""
        return "1 month" if self.term_months == 1 else f"{self.term_months} months"

    @property
    def title(self) -> str:
        """Its name on invoices."""
        return f"Bucket of {self.size:,} {self.noun}, {self.term}"

    @property
    def unit_micros(self) -> int:
        """What one unit comes to, rounded half up: for the eye alone."""
        return round_half_up(self.price_micros, self.size)


class BucketRenewal(models.Model):
    """A standing order to buy a bucket again when its term ends, as somebody accepted it; it can be ended until then.

    `offer` is what will be bought: what is on sale at the renewal, as the notice of 30 days before told it.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.ForeignKey(Bucket, on_delete=models.PROTECT, db_constraint=False, related_name="renewals")
    offer = models.ForeignKey(BucketOffer, on_delete=models.PROTECT, related_name="renewals")
    mandate_version = models.CharField(max_length=32)
    mandate_text = models.TextField()
    accepted_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    accepted_at = models.DateTimeField()
    told_at = models.DateTimeField(null=True, help_text="When the offer was fixed and told.")
    ended_at = models.DateTimeField(null=True)
    ended_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    ended_reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="bucket_renewal_is_its_organizations"),
            SameOrganization(field="bucket", name="bucket_renewal_is_of_its_own_bucket"),
            models.UniqueConstraint(
                fields=["organization", "bucket"],
                condition=models.Q(ended_at=None),
                name="bucket_renewal_is_one_in_force",
            ),
        ]

    def __str__(self) -> str:
        return f"renewal of {self.bucket_id}"
