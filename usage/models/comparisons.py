"""Comparisons: a customer's own log of calls, held against what is charged."""

import uuid

from django.conf import settings
from django.db import models

from accounts.models import Organization


class Comparison(models.Model):
    """One file of a customer's, and where it differs from the calls of some days (in the organization's zone).

    `header` and `sample` are what people choose `columns` by. `results` has, by class, how many calls, what they cost
    here and there, and what is at stake. Whoever compares holds the `lease` and touches the row at every batch, by
    database time; the files of the classes lie beside each other until `expires_at`.
    """

    class State(models.TextChoices):
        MAPPING = "mapping", "Columns to be chosen"
        WAITING = "waiting", "Waiting"
        COMPARING = "comparing", "Being compared"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        EXPIRED = "expired", "Files removed"

    class Class(models.TextChoices):
        EXACT = "exact", "Exact"
        WITHIN = "within", "Within tolerance"
        MISMATCH = "mismatch", "Mismatch"
        MISSING_HERE = "missing_here", "Not in our log"
        MISSING_THERE = "missing_there", "Not in your log"

    UNDER_WAY = (State.WAITING, State.COMPARING)

    public_id = models.UUIDField(default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    name = models.CharField(max_length=255, help_text="As the file was called.")
    kind = models.CharField(max_length=8)
    encoding = models.CharField(max_length=32, blank=True, default="")
    size_bytes = models.BigIntegerField()
    header = models.JSONField()
    sample = models.JSONField()
    starts_date = models.DateField()
    ends_date = models.DateField(help_text="The last day that is compared.")
    columns = models.JSONField(default=dict)
    tolerance_ms = models.BigIntegerField(default=0)
    tolerance_micros = models.BigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=State, default=State.MAPPING)
    rows_done = models.BigIntegerField(default=0)
    percent_done = models.PositiveSmallIntegerField(default=0)
    repeated_rows = models.BigIntegerField(default=0, help_text="Rows whose call stands in an earlier row already.")
    nameless_rows = models.BigIntegerField(default=0, help_text="Rows without a call id that could be read.")
    faults = models.JSONField(default=list, help_text="Lines of the first rows that could not be read whole, and why.")
    results = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True, default="", help_text="Why it failed, and what to do.")
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When a worker last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(help_text="From then on its files are gone.")

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "public_id"], name="comparison_public_id_is_unique"),
            models.CheckConstraint(
                condition=models.Q(ends_date__gte=models.F("starts_date")), name="comparison_has_a_day"
            ),
            models.CheckConstraint(
                condition=models.Q(tolerance_ms__gte=0, tolerance_micros__gte=0),
                name="comparison_tolerances_are_not_negative",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-asked_at"], name="comparison_of_organization"),
            models.Index(
                fields=["id"], condition=models.Q(state__in=["waiting", "comparing"]), name="comparison_under_way"
            ),
            models.Index(fields=["expires_at"], name="comparison_to_forget"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_under_way(self) -> bool:
        """Whether a worker has it, or will."""
        return self.state in self.UNDER_WAY
