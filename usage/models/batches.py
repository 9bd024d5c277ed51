"""Requests whose calls are all recorded."""

from django.db import models


class RecordedBatch(models.Model):
    """A request of many calls of which none was refused: the same bytes again are all duplicates, unread.

    `digest` is the first half of the SHA-256 of what was sent and of whose it may be. Written with the calls.
    """

    digest = models.UUIDField(primary_key=True)
    recorded_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "recorded batches"
        ordering = ["-recorded_at", "digest"]
        indexes = [models.Index(fields=["recorded_at"], name="recorded_batch_by_time")]

    def __str__(self) -> str:
        return str(self.digest)
