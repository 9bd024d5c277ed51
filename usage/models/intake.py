"""What arrived besides calls: the numbers that sources count by, rejections, and copies of what was known.

Kept for a while (`settings.INTAKE_KEPT`), never a fact that money rests on. What every request may add to has no
foreign keys in the database, whose checks would cost more than the insert.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import ApiKey, Organization


class SequenceNote(models.Model):
    """Consecutive numbers of one source that arrived together: appended by ingest, folded into ranges afterwards.

    Appending takes no lock that another request waits for. `missing` counts numbers that were given up.
    """

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    source = models.CharField(max_length=64)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    missing = models.BigIntegerField(default=0)
    latest_at = models.DateTimeField(null=True, help_text="When the last of the calls was over.")
    received_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(last__gte=models.F("first"), first__gte=0), name="sequence_note_is_a_range"
            ),
        ]
        indexes = [models.Index(fields=["organization", "source", "id"], name="sequence_note_by_source")]

    def __str__(self) -> str:
        return f"{self.source} #{self.first}–{self.last}"


class SequenceRange(models.Model):
    """Numbers of one source of which none is missing, but those given up; between two ranges lies a gap."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    source = models.CharField(max_length=64)
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    missing = models.BigIntegerField(default=0)
    latest_at = models.DateTimeField(null=True, help_text="When the last of the calls was over.")
    first_received_at = models.DateTimeField()
    last_received_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "source", "first"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "source", "first"], name="sequence_range_starts_once"),
            models.CheckConstraint(
                condition=models.Q(last__gte=models.F("first"), first__gte=0), name="sequence_range_is_a_range"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} #{self.first}–{self.last}"


class Rejection(models.Model):
    """An item that was refused, by its call's id: why the last time, and how often.

    `key` is the id's, as in `CallKey`; of items without a readable id, those refused for one reason share a row.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.UUIDField()
    call_id = models.CharField(max_length=128, blank=True)
    index = models.PositiveIntegerField(help_text="Place of the item in its request, from 0.")
    field = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500)
    times = models.BigIntegerField(default=1)
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)
    first_received_at = models.DateTimeField()
    last_received_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "-last_received_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="rejection_is_one_row_a_call"),
        ]
        indexes = [models.Index(fields=["organization", "last_received_at"], name="rejection_by_time")]

    def __str__(self) -> str:
        return f"{self.call_id or 'an item without an id'}: {self.reason}"


class Redelivery(models.Model):
    """The items of one request that were known already: the same again, or other content under a known id.

    Each is the first eight bytes of its `CallKey`, so that a request of a thousand is one row of 8 kB.
    """

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    duplicates = ArrayField(models.BigIntegerField())
    conflicts = ArrayField(models.BigIntegerField())
    api_key = models.ForeignKey(
        ApiKey, null=True, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    received_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "redeliveries"
        ordering = ["organization", "-received_at", "-id"]
        indexes = [models.Index(fields=["organization", "received_at", "id"], name="redelivery_by_time")]

    def __str__(self) -> str:
        return f"{len(self.duplicates)} duplicates, {len(self.conflicts)} conflicts"
