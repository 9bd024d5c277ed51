"""What cheaper revisions of calls gave back, and what credit paid afterwards of what a month had accrued."""

import pgtrigger
from django.db import models

from accounts.constraints import SameOrganization
from accounts.models import Organization
from billing_portal.ledger.models.books import Grant, Settlement, Transaction
from usage.models import Billable

_INSERT_ONLY = pgtrigger.Protect(name="insert_only", operation=pgtrigger.Update | pgtrigger.Delete)


class GiveBack(models.Model):
    """The grant by which a settlement gave back what revisions in it cost less: of one call, or of one backfill's.

    `in_month_micros` of it take back what the settlement's own month had charged: a trigger lowers what the month came
    to by them, by which its cap is judged. The rest was charged in a month before, whose spend stays as it was.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    settlement = models.ForeignKey(Settlement, on_delete=models.PROTECT, db_constraint=False, related_name="give_backs")
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, db_constraint=False, related_name="give_backs")
    calls = models.BigIntegerField()
    in_month_micros = models.BigIntegerField(db_default=0)

    class Meta:
        ordering = ["settlement", "id"]
        constraints = [
            SameOrganization(field="settlement", name="give_back_is_of_its_own_settlement"),
            SameOrganization(field="grant", name="give_back_is_of_its_own_grant"),
            models.UniqueConstraint(fields=["organization", "grant"], name="give_back_is_one_a_grant"),
            models.CheckConstraint(condition=models.Q(calls__gt=0), name="give_back_is_for_calls"),
            models.CheckConstraint(
                condition=models.Q(in_month_micros__gte=0), name="give_back_takes_back_nothing_negative"
            ),
        ]
        triggers = [
            _INSERT_ONLY,
            pgtrigger.Trigger(
                name="month_spend_is_lowered",
                level=pgtrigger.Statement,
                when=pgtrigger.After,
                operation=pgtrigger.Insert,
                referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
                func="""
                UPDATE ledger_monthspend AS kept SET given_back_micros = kept.given_back_micros + given.micros
                FROM (
                    SELECT s.organization_id, s.month, sum(f.in_month_micros) AS micros
                    FROM fresh f JOIN ledger_settlement s
                      ON s.organization_id = f.organization_id AND s.id = f.settlement_id
                    GROUP BY s.organization_id, s.month
                ) AS given
                WHERE kept.organization_id = given.organization_id AND kept.month = given.month;
                RETURN NULL;
                """,
            ),
        ]

    def __str__(self) -> str:
        return f"given back for {self.calls} calls"


class SetOff(models.Model):
    """What a grant paid of one component that a month had accrued before: it comes off the month's invoice."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    transaction = models.ForeignKey(Transaction, on_delete=models.PROTECT, db_constraint=False, related_name="set_offs")
    grant = models.ForeignKey(Grant, on_delete=models.PROTECT, db_constraint=False, related_name="set_offs")
    month = models.DateField(help_text="First day of the month that had accrued it.")
    component = models.CharField(max_length=24, choices=Billable)
    micros = models.BigIntegerField()

    class Meta:
        ordering = ["transaction", "id"]
        constraints = [
            SameOrganization(field="transaction", name="set_off_is_of_its_own_transaction"),
            SameOrganization(field="grant", name="set_off_is_of_its_own_grant"),
            models.UniqueConstraint(
                fields=["organization", "transaction", "grant", "component"],
                name="set_off_is_one_a_grant_and_component",
            ),
            models.CheckConstraint(condition=models.Q(micros__gt=0), name="set_off_is_positive"),
        ]
        indexes = [models.Index(fields=["organization", "month"], name="set_off_by_month")]
        triggers = [_INSERT_ONLY]

    def __str__(self) -> str:
        return f"{self.component} {self.micros} of {self.month:%Y-%m}"
