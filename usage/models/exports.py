"""Exports: files of calls that are written in the background, for one organization, for a while."""

import uuid

from django.conf import settings
from django.db import models

from accounts.models import Organization


class Export(models.Model):
    """One file that somebody asked for.

    Up to `after_started_at` and `after_id` its calls are in the file, whose first `bytes_done` bytes are good. Whoever
    writes it holds the `lease` and touches the row at every chunk, by database time: an untouched one is taken over.
    """

    class Format(models.TextChoices):
        CSV = "csv", "CSV"
        XLSX = "xlsx", "XLSX"
        JSONL = "jsonl", "JSON Lines"
        PARQUET = "parquet", "Parquet"
        FOCUS = "focus", "FOCUS 1.2"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        WRITING = "writing", "Being written"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"
        EXPIRED = "expired", "Expired"

    UNDER_WAY = (State.WAITING, State.WRITING)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="exports")
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    filters = models.JSONField(help_text="Which calls, as the list of calls is filtered.")
    format = models.CharField(max_length=16, choices=Format)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    calls = models.BigIntegerField(help_text="How many calls there were when it was asked for.")
    rows_done = models.BigIntegerField(default=0)
    bytes_done = models.BigIntegerField(default=0)
    after_started_at = models.DateTimeField(null=True)
    after_id = models.BigIntegerField(null=True)
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When a worker last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True, help_text="From then on the file is gone.")

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state="ready", expires_at__isnull=False, finished_at__isnull=False)
                | ~models.Q(state="ready"),
                name="export_that_is_ready_expires",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-asked_at"], name="export_of_organization"),
            models.Index(fields=["id"], condition=models.Q(state__in=["waiting", "writing"]), name="export_under_way"),
            models.Index(fields=["expires_at"], condition=models.Q(state="ready"), name="export_to_expire"),
        ]

    def __str__(self) -> str:
        return f"{self.get_format_display()} of {self.organization_id}"

    @property
    def is_under_way(self) -> bool:
        """Whether it is still to be written."""
        return self.state in self.UNDER_WAY
