"""Letters: e-mails that something in the books asks for, written with it and sent afterwards."""

from django.db import models

from accounts.models.people import Organization


class Letter(models.Model):
    """One e-mail to one address, as it was written. A reference is written to an address once, for ever."""

    organization = models.ForeignKey(Organization, null=True, on_delete=models.PROTECT, related_name="letters")
    reference = models.CharField(max_length=200)
    to = models.EmailField()
    subject = models.CharField(max_length=300)
    text = models.TextField()
    html = models.TextField()
    written_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    claimed_at = models.DateTimeField(null=True, help_text="When a worker last set out to send it, by database time.")
    sent_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["reference", "to"], name="letter_is_written_once"),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(sent_at=None), name="letter_waiting"),
            models.Index(fields=["written_at"], name="letter_by_age"),
        ]

    def __str__(self) -> str:
        return self.reference
