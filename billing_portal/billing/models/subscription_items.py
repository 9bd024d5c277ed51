"""Items of subscriptions, as Stripe has them."""

from django.db import models

from accounts.models import Organization
from usage.models import Billable


class SubscriptionItem(models.Model):
    """The item through which Stripe bills one component to an organization. It is never removed."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    component = models.CharField(max_length=24, choices=Billable)
    stripe_subscription_item_id = models.CharField(max_length=255, unique=True)
    added_at = models.DateTimeField(help_text="By Stripe's clock. Usage before this instant is not billed by Stripe.")

    class Meta:
        ordering = ["organization", "component"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "component"], name="subscription_item_is_one_a_component"),
        ]

    def __str__(self) -> str:
        return self.stripe_subscription_item_id
