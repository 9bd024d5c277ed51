"""Discounts that staff entered for an organization."""

import uuid

import pgtrigger
from django.db import models

from accounts.models import Organization

_WHOLE = 10_000


class Discount(models.Model):
    """Per cent or an amount off each month's usage that credit does not pay, before tax.

    Its terms stand; only its end can be set, once.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="discounts")
    percent_hundredths = models.PositiveSmallIntegerField(
        null=True, help_text="Hundredths of a per cent: 1250 is 12.5 %."
    )
    amount_micros = models.BigIntegerField(null=True, help_text="Off each month; what a month cannot use of it lapses.")
    currency = models.CharField(max_length=3)
    first_month = models.DateField(help_text="First day of the first month.")
    months = models.PositiveSmallIntegerField(null=True, help_text="For how many months; for ever without it.")
    ended_before = models.DateField(
        null=True, help_text="First day of the first month that it does not lower any more."
    )
    reason = models.CharField(max_length=200, help_text="For the customer to read.")
    reference = models.CharField(max_length=200)
    entered_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "reference"], name="discount_reference_is_unique"),
            models.CheckConstraint(condition=~models.Q(reason=""), name="discount_has_a_reason"),
            models.CheckConstraint(
                condition=models.Q(
                    percent_hundredths__gte=1, percent_hundredths__lte=_WHOLE, amount_micros__isnull=True
                )
                | models.Q(percent_hundredths__isnull=True, amount_micros__gt=0),
                name="discount_is_per_cent_or_an_amount",
            ),
            models.CheckConstraint(
                condition=models.Q(months=None) | models.Q(months__gt=0), name="discount_is_for_a_month_at_least"
            ),
            models.CheckConstraint(
                condition=models.Q(ended_before=None) | models.Q(ended_before__gte=models.F("first_month")),
                name="discount_ends_after_it_begins",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="discounts_are_kept", operation=pgtrigger.Delete),
            pgtrigger.Trigger(
                name="discount_terms_stand",
                when=pgtrigger.Before,
                operation=pgtrigger.Update,
                func="""
                IF OLD.ended_before IS NOT NULL
                   OR to_jsonb(NEW) - 'ended_before' IS DISTINCT FROM to_jsonb(OLD) - 'ended_before' THEN
                    RAISE EXCEPTION 'the terms of discount % stand', OLD.id
                        USING ERRCODE = 'integrity_constraint_violation';
                END IF;
                RETURN NEW;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"discount {self.public_id}"

    @property
    def name(self) -> str:
        """What names it in the ledger and in receipts."""
        return str(self.public_id)
