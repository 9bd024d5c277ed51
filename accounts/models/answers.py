"""Answers that were given to programs, kept for a while so that a repeated request gets the same again."""

from django.db import models
from django.db.models.functions import Now

from accounts.models.people import Organization


class KeptAnswer(models.Model):
    """The answer to a request that carried an `Idempotency-Key`; without a status the request is still at work.

    `key` is the sender's, unique among an organization's requests (the vendor's: without one). `request` is the
    SHA-256 of what was asked. Times are the database's.
    """

    organization = models.ForeignKey(Organization, null=True, on_delete=models.PROTECT, related_name="+")
    key = models.CharField(max_length=255)
    request = models.BinaryField(max_length=32)
    status = models.SmallIntegerField(null=True)
    content_type = models.CharField(max_length=100, blank=True, default="")
    body = models.BinaryField(default=b"")
    begun_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "key"], name="kept_answer_is_one_per_key", nulls_distinct=False
            ),
        ]
        indexes = [models.Index(fields=["begun_at"], name="kept_answer_by_age")]

    def __str__(self) -> str:
        return self.key
