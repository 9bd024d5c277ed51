"""Usage by what an organization writes into its calls' metadata: the keys it chose, and sums by their values."""

from django.db import models

from accounts.models import Organization


class MetadataKey(models.Model):
    """A key of calls' metadata whose values an organization wants summed up, from the calls of `starts_on` on.

    Settled calls up to number `counted_through` are in the sums. Calls without the key and with other values than the
    first thousand are summed up too, so that nothing is missing.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(max_length=64)
    starts_on = models.DateField(help_text="The first day that is summed up.")
    counted_through = models.BigIntegerField()
    asked_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "key", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="metadata_key_is_unique"),
            models.CheckConstraint(condition=models.Q(counted_through__gte=0), name="metadata_key_counts_up"),
        ]

    def __str__(self) -> str:
        return self.key


class DailyMetadataUsage(models.Model):
    """Settled calls by day in the organization's time zone and value of a key."""

    class Kind(models.IntegerChoices):
        NONE = 0, "No value"
        VALUE = 1, "Value"
        OTHER = 2, "Other values"

    pk = models.CompositePrimaryKey("organization_id", "key_id", "date", "kind", "value")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    key = models.ForeignKey(
        MetadataKey, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    date = models.DateField()
    kind = models.SmallIntegerField(choices=Kind)
    value = models.CharField(max_length=100, blank=True, help_text="Empty unless the kind is a value.")
    calls = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "key", "date", "kind", "value"]

    def __str__(self) -> str:
        return f"{self.date} {self.value}: {self.micros}"
