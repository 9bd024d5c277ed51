"""Prices: books, their versions, the rates of a version."""

import pgtrigger
from django.db import models

from accounts.models import Organization

_PRICES_CHANGED = """
    PERFORM pg_advisory_xact_lock({lock});
    INSERT INTO usage_pricestamp (id, stamp) VALUES (1, gen_random_uuid())
    ON CONFLICT (id) DO UPDATE SET stamp = excluded.stamp;
    RETURN NULL;
"""


class Component(models.TextChoices):
    """One priced side of a call. Each has a Stripe meter of its own."""

    PLATFORM = "platform", "Platform"
    VOICE = "voice", "Voice engine"
    LLM = "llm", "Language model"
    TELEPHONY = "telephony", "Telephony"
    ADD_ON = "add_on", "Add-ons"
    PER_CALL = "per_call", "Per-call items"
    TOKEN_SURCHARGE = "token_surcharge", "Token surcharge"


# Held shared by every transaction that prices calls, and alone by one that changes prices: so no charge is made from
# prices that were being edited.
PRICE_LOCK = 7_301_001


def _stamp(name: str, operation: pgtrigger.Operation) -> pgtrigger.Trigger:
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=operation,
        func=_PRICES_CHANGED.format(lock=PRICE_LOCK),
    )


class PriceStamp(models.Model):
    """One row that names the present state of all prices: every change gives it another value, also one rolled back."""

    stamp = models.UUIDField()

    def __str__(self) -> str:
        return str(self.stamp)


class PriceBook(models.Model):
    """A named list of prices in one currency: public, or one organization's own."""

    reference = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=120)
    currency = models.CharField(max_length=3)
    organization = models.OneToOneField(
        Organization, null=True, blank=True, on_delete=models.PROTECT, related_name="own_price_book"
    )
    is_default = models.BooleanField(default=False, help_text="The public book of its currency.")

    class Meta:
        ordering = ["reference", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["currency"],
                condition=models.Q(is_default=True),
                name="price_book_is_one_default_per_currency",
            ),
            models.CheckConstraint(
                condition=models.Q(is_default=False) | models.Q(organization__isnull=True),
                name="price_book_default_is_public",
            ),
        ]
        triggers = [_stamp("price_books_changed", pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return self.name


_PRICES_UPDATED = pgtrigger.UpdateOf(  # type: ignore[no-untyped-call]
    "book_id", "number", "starts_at", "grace_ms", "free_ms", "token_threshold"
)


class PriceVersion(models.Model):
    """The rates of a book from `starts_at` on; never edited once in force.

    `grace_ms`: a shorter call costs nothing. `free_ms`: this much of every call is free.
    `token_threshold`: mean tokens per request above which LLM time is scaled up, the surplus as a
    surcharge; 0 is never.
    """

    book = models.ForeignKey(PriceBook, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    starts_at = models.DateTimeField()
    grace_ms = models.PositiveIntegerField(default=0)
    free_ms = models.PositiveIntegerField(default=0)
    token_threshold = models.PositiveIntegerField(default=3500)
    note = models.CharField(max_length=200, blank=True, default="")
    created_at = models.DateTimeField()
    is_used = models.BooleanField(default=False, editable=False, help_text="Some charge rests on it.")

    class Meta:
        ordering = ["book", "number"]
        constraints = [
            models.UniqueConstraint(fields=["book", "number"], name="price_version_number_is_unique"),
            models.UniqueConstraint(fields=["book", "starts_at"], name="price_version_start_is_unique"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="used_price_version_is_kept",
                operation=pgtrigger.Update | pgtrigger.Delete,
                condition=pgtrigger.Q(old__is_used=True),
            ),
            # The first charge marks a version as used, which changes no price.
            _stamp(
                "price_versions_changed",
                pgtrigger.Insert | _PRICES_UPDATED | pgtrigger.Delete,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.book} v{self.number}"


class PriceRate(models.Model):
    """What one product costs: `rate_micros` for each unit, its quantity rounded up as the fields say."""

    class Unit(models.TextChoices):
        MINUTE = "minute", "per minute"
        SECOND = "second", "per second"
        CALL = "call", "per call"
        THOUSAND_TOKENS = "thousand_tokens", "per 1,000 tokens"
        SURCHARGE = "surcharge", "at the language model's rate"

    version = models.ForeignKey(PriceVersion, on_delete=models.PROTECT, related_name="rates")
    component = models.CharField(max_length=24, choices=Component)
    product = models.CharField(max_length=64)
    label = models.CharField(max_length=80, blank=True, default="")
    unit = models.CharField(max_length=24, choices=Unit)
    rate_micros = models.BigIntegerField()
    minimum_ms = models.PositiveIntegerField(default=0)
    increment_ms = models.PositiveIntegerField(default=1000)

    class Meta:
        ordering = ["version", "component", "product"]
        constraints = [
            models.UniqueConstraint(fields=["version", "product"], name="price_rate_product_is_unique"),
            models.CheckConstraint(condition=models.Q(rate_micros__gte=0), name="price_rate_is_not_negative"),
            models.CheckConstraint(condition=models.Q(increment_ms__gt=0), name="price_rate_increment_is_positive"),
        ]
        triggers = [
            pgtrigger.Trigger(
                name="used_price_rate_is_kept",
                when=pgtrigger.Before,
                operation=pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete,
                func="""
                    IF EXISTS (
                        SELECT FROM usage_priceversion
                        WHERE is_used AND (
                            (TG_OP <> 'INSERT' AND id = OLD.version_id) OR (TG_OP <> 'DELETE' AND id = NEW.version_id)
                        )
                    ) THEN
                        RAISE EXCEPTION 'The rates of a price version that charges rest on are kept.';
                    END IF;
                    RETURN COALESCE(NEW, OLD);
                """,
            ),
            _stamp("price_rates_changed", pgtrigger.Insert | pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.product}: {self.rate_micros} {self.get_unit_display()}"
