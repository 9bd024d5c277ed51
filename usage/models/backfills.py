"""Backfills: the calls of some days priced anew, first only counted, then as revisions."""

import pgtrigger
from django.db import models

from accounts.models import Organization, User
from usage.models.prices import PriceVersion


class Backfill(models.Model):
    """Days whose calls get the prices of another version: who asked, why, and who let it go ahead.

    First it is counted, which changes nothing; then another person starts it. Both go on from where they were,
    organization by organization, whoever does the work. `public_id` is minted with the form, so that a form sent twice
    asks once. `prices_digest` tells the prices by which it is counted from what they may be edited to.
    """

    class State(models.TextChoices):
        COUNTING = "counting", "Being counted"
        COUNTED = "counted", "Waits for a second person"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        CANCELLED = "cancelled", "Cancelled"

    AT_WORK = (State.COUNTING, State.RUNNING)

    public_id = models.UUIDField(unique=True, editable=False)
    price_version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="+")
    prices_digest = models.UUIDField(editable=False)
    starts_on = models.DateField(help_text="First day, in each organization's time zone.")
    ends_on = models.DateField(help_text="Last day.")
    reason = models.CharField(max_length=200, help_text="For the customers to read.")
    state = models.CharField(max_length=16, choices=State, default=State.COUNTING)
    asked_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    started_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    started_at = models.DateTimeField(null=True)
    cancelled_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(reason=""), name="backfill_has_a_reason"),
            models.CheckConstraint(
                condition=models.Q(ends_on__gte=models.F("starts_on")), name="backfill_ends_after_it_starts"
            ),
            models.CheckConstraint(
                condition=~models.Q(state__in=["running", "done"]) | models.Q(started_by__isnull=False),
                name="backfill_is_started_by_someone",
            ),
            models.CheckConstraint(
                condition=models.Q(started_by=None) | ~models.Q(started_by=models.F("asked_by")),
                name="backfill_is_started_by_another",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="cancelled") | models.Q(cancelled_by__isnull=False),
                name="backfill_is_cancelled_by_someone",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(state__in=["counting", "running"]), name="backfill_at_work"),
        ]
        triggers = [
            pgtrigger.Protect(name="backfills_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="ended_backfills_stand",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__state__in=["done", "cancelled"]),
            ),
            pgtrigger.ReadOnly(
                name="what_a_backfill_asks_stands",
                fields=["price_version", "prices_digest", "starts_on", "ends_on", "reason", "asked_by", "asked_at"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.price_version} for {self.starts_on} to {self.ends_on}"


class BackfillPart(models.Model):
    """One organization's part: what was counted, and what was done so far.

    `counted_…` and `done_…` places are those of the last call looked at. Micros `more` are charged, `less` are given
    back; a call may have both, in different components. Dearer and cheaper calls go by their sums. `looked_at` calls
    are through. A part that failed `attempts` times in a row is set aside.
    """

    backfill = models.ForeignKey(Backfill, on_delete=models.PROTECT, db_constraint=False, related_name="parts")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    calls = models.BigIntegerField(default=0)
    dearer = models.BigIntegerField(default=0)
    cheaper = models.BigIntegerField(default=0)
    unpriced = models.BigIntegerField(
        default=0, help_text="Calls that the version cannot price, or that wait for a price."
    )
    before_micros = models.BigIntegerField(default=0)
    more_micros = models.BigIntegerField(default=0)
    less_micros = models.BigIntegerField(default=0)
    counted_upto_at = models.DateTimeField(null=True)
    counted_upto_id = models.BigIntegerField(default=0)
    counted_at = models.DateTimeField(null=True)
    looked_at = models.BigIntegerField(default=0)
    revised = models.BigIntegerField(default=0)
    charged_micros = models.BigIntegerField(default=0)
    given_back_micros = models.BigIntegerField(default=0)
    done_upto_at = models.DateTimeField(null=True)
    done_upto_id = models.BigIntegerField(default=0)
    done_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["backfill", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "backfill"], name="backfill_part_is_one_an_organization"),
        ]
        indexes = [
            models.Index(fields=["organization", "done_at"], name="backfill_part_by_end"),
        ]
        triggers = [
            pgtrigger.Protect(name="backfill_parts_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="ended_backfill_parts_stand",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__done_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"part of {self.organization_id}"

    @property
    def after_micros(self) -> int:
        """What the calls come to by the new prices."""
        return self.before_micros + self.more_micros - self.less_micros

    @property
    def net_micros(self) -> int:
        """What the organization pays more; below zero where it pays less."""
        return self.more_micros - self.less_micros
