"""Accounts, periods, grants, the journal, and what settlement decided."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization, refers_to_own
from accounts.models import Organization
from usage.models import Billable

_INSERT_ONLY = pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)


class Account(models.Model):
    """The books of one organization; its row is the lock under which everything happens.

    `accrued_micros` is a cache: a trigger of `Entry` keeps it, `verify_ledger` proves it. `has_card` and
    `unpaid_stops_at` are facts of billing, which writes them whenever a card comes or goes and an invoice becomes
    overdue or paid, so that an authorization has to ask nobody else.
    """

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="account")
    currency = models.CharField(max_length=3)
    last_sequence = models.BigIntegerField(default=0, help_text="Number of the charge settled last.")
    arrears_limit_micros = models.BigIntegerField()
    accrued_micros = models.BigIntegerField(default=0, help_text="Owed on the card, not yet paid.")
    has_card = models.BooleanField(default=False, help_text="Whether there is a card to charge.")
    unpaid_stops_at = models.DateTimeField(null=True, blank=True, help_text="Usage stops while an invoice is unpaid.")
    opened_at = models.DateTimeField()
    frozen_at = models.DateTimeField(null=True, blank=True, help_text="Since when no money moves here.")
    frozen_reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(frozen_at=None, frozen_reason="")
                | (models.Q(frozen_at__isnull=False) & ~models.Q(frozen_reason="")),
                name="account_is_frozen_for_a_reason",
            ),
            models.CheckConstraint(condition=models.Q(last_sequence__gte=0), name="account_sequence_is_not_negative"),
            models.CheckConstraint(
                condition=models.Q(arrears_limit_micros__gte=0), name="account_arrears_limit_is_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"account of {self.organization_id}"


class Period(models.Model):
    """One billing month of an organization: half-open, from its own zone's midnight to midnight, without gaps."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    month = models.DateField(help_text="First day of the month.")
    time_zone = models.CharField(max_length=64)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    invoiced_micros = models.BigIntegerField(
        default=0,
        db_default=0,
        help_text="Of what the month accrued, the part that interim invoices bill, paid or not.",
    )

    class Meta:
        ordering = ["organization", "month"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "month"], name="period_is_one_a_month"),
            models.UniqueConstraint(fields=["organization", "starts_at"], name="period_start_is_unique"),
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="period_ends_after_it_starts"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} of {self.organization_id}"


class Grant(models.Model):
    """Money the organization may burn. `remaining_micros` is a cache that `verify_ledger` proves."""

    class Kind(models.TextChoices):
        WELCOME = "welcome", "Welcome credit"
        PREPAID = "prepaid", "Prepaid credit"
        GOODWILL = "goodwill", "Goodwill credit"
        CORRECTION = "correction", "Correction"

    # Corrections first, then what expires or was free, then what was paid for.
    PRIORITIES = {Kind.CORRECTION: 10, Kind.WELCOME: 20, Kind.GOODWILL: 30, Kind.PREPAID: 40}

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="grants", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    priority = models.PositiveSmallIntegerField()
    currency = models.CharField(max_length=3)
    amount_micros = models.BigIntegerField()
    remaining_micros = models.BigIntegerField()
    reference = models.CharField(max_length=200)
    reason = models.CharField(max_length=400, blank=True, default="", help_text="For the customer to read.")
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = [
            "organization",
            "priority",
            models.F("expires_at").asc(nulls_last=True),
            "created_at",
            "id",
        ]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="grant_is_its_organizations"),
            models.UniqueConstraint(fields=["organization", "reference"], name="grant_reference_is_unique"),
            models.CheckConstraint(condition=models.Q(amount_micros__gt=0), name="grant_amount_is_positive"),
            models.CheckConstraint(
                condition=models.Q(remaining_micros__gte=0) & models.Q(remaining_micros__lte=models.F("amount_micros")),
                name="grant_remainder_is_within_its_amount",
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"],
                condition=models.Q(remaining_micros__gt=0, expires_at__isnull=False),
                name="grant_running_out",
            ),
        ]
        triggers = [pgtrigger.Protect(name="grant_is_kept", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference}"


class Transaction(models.Model):
    """One thing that happened to an organization's money, named by a reference, done once."""

    class Kind(models.TextChoices):
        GRANT = "grant", "Credit granted"
        SETTLE = "settle", "Usage"
        EXPIRE = "expire", "Credit expired"
        COLLECT = "collect", "Invoice paid"
        REVERSE = "reverse", "Taken back"
        WRITE_OFF = "write_off", "Written off"
        SET_OFF = "set_off", "Set off"
        CREDIT_NOTE = "credit_note", "Credit note"
        CLAIM = "claim", "Payment taken back"
        DISCOUNT = "discount", "Discount"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    reference = models.CharField(max_length=200)
    reason = models.CharField(max_length=200, blank=True, default="", help_text="For the customer to read.")
    reverses = models.OneToOneField(
        "self", null=True, on_delete=models.PROTECT, db_constraint=False, related_name="reversed_by"
    )
    occurred_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "id"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="transaction_is_its_organizations"),
            SameOrganization(field="reverses", name="transaction_reverses_its_own"),
            models.UniqueConstraint(fields=["organization", "reference"], name="transaction_reference_is_unique"),
            models.CheckConstraint(
                condition=models.Q(reverses=None) | models.Q(kind="reverse"), name="transaction_reverses_as_a_reversal"
            ),
            models.CheckConstraint(
                condition=~models.Q(kind__in=["reverse", "write_off"]) | ~models.Q(reason=""),
                name="transaction_by_a_person_has_a_reason",
            ),
        ]
        indexes = [models.Index(fields=["organization", "occurred_at", "id"], name="transaction_by_instant")]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return self.reference


class Entry(models.Model):
    """One side of a transaction: signed micros in one of the organization's books."""

    class Book(models.TextChoices):
        ISSUED = "issued", "Credit issued"
        CREDIT = "credit", "Credit"
        USAGE = "usage", "Usage"
        RECEIVABLE = "receivable", "Accrued to the card"
        PAYMENTS = "payments", "Payments"
        BREAKAGE = "breakage", "Expired credit"
        REVERSED = "reversed", "Credit taken back"
        WRITTEN_OFF = "written_off", "Written off"
        ROUNDING = "rounding", "Rounding"
        CREDITED = "credited", "Credited by note"
        CLAIMED = "claimed", "Paid back after it was spent"
        DISCOUNTED = "discounted", "Discounts"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, db_constraint=False, related_name="entries")
    book = models.CharField(max_length=16, choices=Book)
    grant = models.ForeignKey(Grant, null=True, on_delete=models.PROTECT, db_constraint=False, related_name="entries")
    currency = models.CharField(max_length=3)
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["organization", "transaction", "id"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(book="credit", grant__isnull=False)
                | (~models.Q(book="credit") & models.Q(grant=None)),
                name="entry_names_its_grant",
            ),
            models.CheckConstraint(condition=~models.Q(micros=0), name="entry_is_not_zero"),
        ]
        indexes = [models.Index(fields=["organization", "book"], name="entry_by_book")]
        triggers = [
            _INSERT_ONLY,
            refers_to_own("entry_is_of_its_own", transaction="ledger_transaction", grant="ledger_grant"),
            # All entries of a transaction come by one statement, so none that are added later can unbalance it.
            pgtrigger.Trigger(
                name="transaction_sums_to_zero",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                IF EXISTS (SELECT FROM fresh GROUP BY transaction_id, currency HAVING sum(micros) <> 0) THEN
                    RAISE EXCEPTION 'a ledger transaction does not sum to zero'
                        USING ERRCODE = 'integrity_constraint_violation';
                END IF;
                RETURN NULL;
                """,
            ),
            pgtrigger.Trigger(
                name="account_knows_what_is_accrued",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                UPDATE ledger_account SET accrued_micros = ledger_account.accrued_micros - added.micros
                FROM (SELECT organization_id, sum(micros) AS micros FROM fresh WHERE book = 'receivable'
                      GROUP BY organization_id) AS added
                WHERE ledger_account.organization_id = added.organization_id;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.book} {self.micros}"


class Settlement(models.Model):
    """A range of consecutive charges of one month, funded together.

    The grants burnt, in burn order, cover the first micros of the range; what is left over is accrued. So the funding
    of any single charge follows from its place in the range (`settlement.funding`).
    """

    class Source(models.TextChoices):
        CALLS = "calls", "Calls"
        OUTCOMES = "outcomes", "Outcomes"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    source = models.CharField(max_length=8, choices=Source, default=Source.CALLS)
    month = models.DateField()
    first_sequence = models.BigIntegerField()
    last_sequence = models.BigIntegerField()
    gross_micros = models.BigIntegerField()
    accrued_micros = models.BigIntegerField()
    settled_at = models.DateTimeField()

    class Meta:
        ordering = ["organization", "first_sequence"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "id"], name="settlement_is_its_organizations"),
            models.UniqueConstraint(fields=["organization", "first_sequence"], name="settlement_starts_once"),
            models.UniqueConstraint(fields=["organization", "last_sequence"], name="settlement_ends_once"),
            models.CheckConstraint(
                condition=models.Q(last_sequence__gte=models.F("first_sequence")),
                name="settlement_is_a_range",
            ),
            models.CheckConstraint(
                condition=models.Q(accrued_micros__gte=0) & models.Q(accrued_micros__lte=models.F("gross_micros")),
                name="settlement_accrues_at_most_its_gross",
            ),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="settlement_by_month")]
        triggers = [
            _INSERT_ONLY,
            pgtrigger.Trigger(
                name="month_spend_is_added_up",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                INSERT INTO ledger_monthspend AS kept (organization_id, month, gross_micros)
                SELECT organization_id, month, sum(gross_micros) FROM fresh
                GROUP BY organization_id, month ORDER BY organization_id, month
                ON CONFLICT (organization_id, month) DO UPDATE SET
                    gross_micros = kept.gross_micros + excluded.gross_micros;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_sequence}–{self.last_sequence} of {self.organization_id}"


class SettlementLine(models.Model):
    """One component of a settlement: what it cost, and what of that is accrued to the card."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, db_constraint=False, related_name="lines")
    component = models.CharField(max_length=24, choices=Billable)
    gross_micros = models.BigIntegerField()
    accrued_micros = models.BigIntegerField()

    class Meta:
        ordering = ["settlement", "component"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "settlement", "component"], name="settlement_line_is_one_a_component"
            ),
        ]
        triggers = [
            _INSERT_ONLY,
            refers_to_own("settlement_line_is_of_its_own", settlement="ledger_settlement"),
        ]

    def __str__(self) -> str:
        return f"{self.component} {self.gross_micros}"


class Burn(models.Model):
    """What one grant paid towards one component of a settlement."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, db_constraint=False, related_name="burns")
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, db_constraint=False, related_name="burns")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["settlement", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "settlement", "grant", "component"], name="burn_is_one_a_grant_and_component"
            ),
            models.CheckConstraint(condition=models.Q(micros__gt=0), name="burn_is_positive"),
        ]
        triggers = [
            _INSERT_ONLY,
            refers_to_own("burn_is_of_its_own", settlement="ledger_settlement", grant="ledger_grant"),
        ]

    def __str__(self) -> str:
        return f"{self.micros} of {self.grant_id}"
