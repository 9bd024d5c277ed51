"""Imports: files of calls or conversations that are recorded in the background, or by a command."""

import uuid

from django.conf import settings
from django.db import models

from accounts.models import ApiKey, Organization


class ImportJob(models.Model):
    """One file, and how far it is recorded: its first `items_done` items are, and are counted.

    `organization` is whose calls they are, where the items need not say. `fingerprint` tells the same file at the same
    place again. Whoever records holds the `lease` and touches the row at every batch, by database time: an untouched
    one is taken over.
    """

    class Kind(models.TextChoices):
        CALLS = "calls", "Calls"
        INTERCOM = "intercom", "Conversations, as Intercom exports them"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RECORDING = "recording", "Being recorded"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    UNDER_WAY = (State.WAITING, State.RECORDING)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.PROTECT, related_name="imports"
    )
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    api_key = models.ForeignKey(ApiKey, null=True, on_delete=models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.CALLS, help_text="What its items are.")
    name = models.CharField(max_length=255, help_text="As the file was called; its end says what is in it.")
    path = models.CharField(
        max_length=1000, help_text="Where a command reads it; an upload is kept by its id.", blank=True
    )
    fingerprint = models.CharField(max_length=64, blank=True)
    size_bytes = models.BigIntegerField()
    bytes_done = models.BigIntegerField(default=0)
    items_done = models.BigIntegerField(default=0)
    recorded = models.BigIntegerField(default=0)
    duplicates = models.BigIntegerField(default=0)
    conflicts = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    reason = models.CharField(max_length=500, blank=True, help_text="Why it failed, and where.")
    lease = models.UUIDField(null=True)
    touched_at = models.DateTimeField(null=True, help_text="When somebody last went on with it, by database time.")
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "import"
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    items_done=models.F("recorded")
                    + models.F("duplicates")
                    + models.F("conflicts")
                    + models.F("rejected")
                ),
                name="import_counts_every_item",
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["waiting", "recording", "done", "failed", "cancelled"]),
                name="import_state_is_known",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(state__in=["waiting", "recording"]), name="import_under_way"
            ),
            models.Index(fields=["finished_at"], name="import_by_end"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_under_way(self) -> bool:
        """Whether it is still to be recorded."""
        return self.state in self.UNDER_WAY

    @property
    def percent_done(self) -> int:
        """How much of the file was read."""
        return 100 if self.state == self.State.DONE else min(99, self.bytes_done * 100 // max(1, self.size_bytes))


class ImportRefusal(models.Model):
    """An item of a file that was not recorded, and why: rejected, or in conflict with what is known."""

    job = models.ForeignKey(ImportJob, on_delete=models.CASCADE, related_name="refusals")
    position = models.BigIntegerField(help_text="The item's place in the file, from 0.")
    line = models.BigIntegerField(help_text="The line on which it starts, from 1.")
    call_id = models.CharField(max_length=128, blank=True)
    status = models.CharField(max_length=16)
    field = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=500)

    class Meta:
        ordering = ["job", "position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="import_refusal_is_kept_once"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"
