"""Who an organization's invoices are made out to, version by version, its tax ids, and the tax of final invoices."""

import uuid

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization, User
from billing_portal.billing.models.stripe_objects import Invoice


class BillingDetails(models.Model):
    """One version of what an organization's invoices say of it. A change is a further version; none is ever edited.

    The newest counts for every invoice that becomes final from then on.
    """

    class Origin(models.TextChoices):
        PORTAL = "portal", "Entered here"
        STRIPE = "stripe", "Entered at Stripe"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="billing_details")
    version = models.PositiveIntegerField()
    legal_name = models.CharField(max_length=150)
    line1 = models.CharField(max_length=200, blank=True, default="")
    line2 = models.CharField(max_length=200, blank=True, default="")
    city = models.CharField(max_length=100, blank=True, default="")
    region = models.CharField(max_length=100, blank=True, default="", help_text="As the country writes it: NY, ON.")
    postal_code = models.CharField(max_length=20, blank=True, default="")
    country = models.CharField(max_length=2)
    purchase_order = models.CharField(max_length=60, blank=True, default="")
    origin = models.CharField(max_length=8, choices=Origin, default=Origin.PORTAL)
    made_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "billing details"
        ordering = ["organization", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="billing_details_are_its_organizations"),
            models.UniqueConstraint(fields=["organization", "version"], name="billing_details_are_one_a_version"),
            models.CheckConstraint(
                condition=models.Q(country__regex="^[A-Z]{2}$"), name="billing_details_country_is_two_capitals"
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="billing_details_stand", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.legal_name}, {self.country} (version {self.version})"


class DetailsAtStripe(models.Model):
    """What Stripe's customer has of an organization's details, and whether Stripe finds the place on its map."""

    class Location(models.TextChoices):
        UNKNOWN = "", "Not asked yet"
        SUPPORTED = "supported", "Tax is worked out there"
        NOT_COLLECTING = "not_collecting", "No tax is collected there"
        UNRECOGNIZED = "unrecognized_location", "Not recognised"
        FAILED = "failed", "Stripe could not tell"

    organization = models.OneToOneField(
        Organization, on_delete=models.PROTECT, primary_key=True, related_name="details_at_stripe"
    )
    details = models.ForeignKey(
        BillingDetails, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+"
    )
    refused = models.ForeignKey(
        BillingDetails, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+"
    )
    failure = models.CharField(max_length=300, blank=True, default="", help_text="Why Stripe refused that version.")
    email = models.EmailField(blank=True, default="")
    location = models.CharField(max_length=24, choices=Location, blank=True, default=Location.UNKNOWN)
    sends = models.PositiveIntegerField(default=0, help_text="How often Stripe was told; names the next time.")

    class Meta:
        verbose_name_plural = "details at Stripe"
        constraints = [
            SameOrganization(field="details", name="details_at_stripe_are_its_own"),
            SameOrganization(field="refused", name="details_at_stripe_refused_its_own"),
        ]

    def __str__(self) -> str:
        return f"of {self.organization_id}"


class TaxId(models.Model):
    """A tax id of an organization, and what Stripe's look into the official register said of it."""

    class State(models.TextChoices):
        ASKED = "asked", "On its way to Stripe"
        HELD = "held", "On invoices"
        REFUSED = "refused", "Refused by Stripe"
        REMOVED = "removed", "Removed"

    class Verification(models.TextChoices):
        PENDING = "pending", "Being verified"
        VERIFIED = "verified", "Verified"
        UNVERIFIED = "unverified", "Not verified"
        UNAVAILABLE = "unavailable", "Not checked"

    OPEN = (State.ASKED, State.HELD)

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="tax_ids")
    type = models.CharField(max_length=24, help_text="As Stripe names it: eu_vat, us_ein.")
    value = models.CharField(max_length=64)
    country = models.CharField(max_length=2)
    state = models.CharField(max_length=16, choices=State, default=State.ASKED)
    verification = models.CharField(max_length=16, choices=Verification, default=Verification.PENDING)
    verified_name = models.CharField(max_length=300, blank=True, default="")
    verified_address = models.CharField(max_length=500, blank=True, default="")
    failure = models.CharField(max_length=300, blank=True, default="")
    stripe_tax_id = models.CharField(max_length=255, unique=True, null=True)  # noqa: DJ001 - unique
    added_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    added_at = models.DateTimeField()
    removed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    removed_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True, help_text="When Stripe had it no more.")

    class Meta:
        verbose_name = "tax ID"
        ordering = ["organization", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "type", "value"],
                condition=models.Q(state__in=["asked", "held"]),
                name="tax_id_is_held_once",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="held") | models.Q(stripe_tax_id__isnull=False),
                name="tax_id_is_held_at_stripe",
            ),
            models.CheckConstraint(
                condition=models.Q(state="removed", removed_at__isnull=False)
                | (~models.Q(state="removed") & models.Q(removed_at=None)),
                name="tax_id_says_when_it_was_removed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(state="asked") | models.Q(state="removed", deleted_at=None),
                name="tax_id_unsent",
            ),
        ]

    def __str__(self) -> str:
        return self.value


class InvoiceParty(models.Model):
    """Whom a final invoice is made out to, as Stripe froze it, and the version of the details it was made with."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.OneToOneField(
        Invoice, on_delete=models.PROTECT, db_constraint=False, primary_key=True, related_name="party"
    )
    details = models.ForeignKey(
        BillingDetails, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="+"
    )
    name = models.CharField(max_length=500, blank=True, default="")
    address = models.JSONField(default=dict, help_text="line1, line2, city, state, postal_code, country.")
    tax_ids = models.JSONField(default=list, help_text="Pairs of Stripe's type and the value.")
    purchase_order = models.CharField(max_length=140, blank=True, default="")
    is_taxed = models.BooleanField(default=False, help_text="Whether Stripe worked out the tax.")
    untaxed_reason = models.CharField(max_length=64, blank=True, default="", help_text="Why it did not.")
    stored_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "invoice parties"
        constraints = [
            SameOrganization(field="invoice", name="invoice_party_is_of_its_own"),
            SameOrganization(field="details", name="invoice_party_has_its_own_details"),
        ]
        triggers = [
            pgtrigger.Protect(name="invoice_party_stands", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return self.name


class InvoiceTax(models.Model):
    """What one final invoice bills at one rate, and the tax on it. The rows of an invoice add up to it exactly.

    Several jurisdictions may stand behind one rate, as state and city in the United States: `parts` names each.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, db_constraint=False, related_name="taxes")
    position = models.PositiveSmallIntegerField()
    country = models.CharField(max_length=2, blank=True, default="")
    region = models.CharField(max_length=100, blank=True, default="")
    name = models.CharField(max_length=200, blank=True, default="")
    percent = models.DecimalField(max_digits=9, decimal_places=4)
    reason = models.CharField(max_length=40, blank=True, default="", help_text="Stripe's: standard_rated, …")
    is_inclusive = models.BooleanField(default=False)
    net_minor = models.BigIntegerField()
    tax_minor = models.BigIntegerField()
    parts = models.JSONField(default=list, help_text="Name, jurisdiction and percent of each.")

    class Meta:
        verbose_name_plural = "invoice taxes"
        ordering = ["invoice", "position"]
        constraints = [
            SameOrganization(field="invoice", name="invoice_tax_is_of_its_own"),
            models.UniqueConstraint(fields=["organization", "invoice", "position"], name="invoice_tax_has_its_place"),
        ]
        triggers = [
            pgtrigger.Protect(name="invoice_tax_stands", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.percent} %"
