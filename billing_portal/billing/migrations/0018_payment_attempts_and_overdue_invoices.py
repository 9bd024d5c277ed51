import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

import accounts.constraints


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_answers_kept_for_repeated_requests"),
        ("billing", "0017_renew_and_upgrade_buckets"),
        ("ledger", "0015_account_knows_when_unpaid_usage_stops"),
    ]

    operations = [
        migrations.CreateModel(
            name="PaymentAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_charge_id", models.CharField(max_length=255, unique=True)),
                ("stripe_payment_intent_id", models.CharField(blank=True, default="", max_length=255)),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("succeeded", "Succeeded"), ("failed", "Failed")],
                        max_length=16,
                    ),
                ),
                ("amount_minor", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                (
                    "kind",
                    models.CharField(blank=True, default="", help_text="Of payment method: card, link.", max_length=24),
                ),
                ("brand", models.CharField(blank=True, default="", max_length=32)),
                ("last4", models.CharField(blank=True, default="", max_length=4)),
                ("funding", models.CharField(blank=True, default="", max_length=16)),
                ("fingerprint", models.CharField(blank=True, default="", max_length=64)),
                ("failure_code", models.CharField(blank=True, default="", max_length=64)),
                ("decline_code", models.CharField(blank=True, default="", max_length=64)),
                (
                    "outcome",
                    models.CharField(
                        blank=True, default="", help_text="authorized, issuer_declined, blocked", max_length=32
                    ),
                ),
                ("risk_level", models.CharField(blank=True, default="", max_length=32)),
                ("risk_score", models.PositiveSmallIntegerField(null=True)),
                (
                    "seller_message",
                    models.CharField(blank=True, default="", help_text="Stripe's words, for staff.", max_length=300),
                ),
                ("attempted_at", models.DateTimeField()),
                (
                    "invoice",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payment_attempts",
                        to="billing.invoice",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["-attempted_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="Overdue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("failed_at", models.DateTimeField()),
                ("stops_at", models.DateTimeField(help_text="From when usage stops, unless it is paid.")),
                (
                    "attempts",
                    models.PositiveIntegerField(default=1, help_text="As Stripe's schedule of retries counts them."),
                ),
                ("attempts_read", models.PositiveIntegerField(default=0)),
                (
                    "asks_owner",
                    models.BooleanField(default=False, help_text="The bank wants the card's owner to confirm."),
                ),
                (
                    "told",
                    models.PositiveSmallIntegerField(
                        choices=[
                            (0, "Nothing"),
                            (1, "That it failed"),
                            (2, "That it failed again"),
                            (3, "That usage stops soon"),
                            (4, "That usage is stopped"),
                            (5, "That it is over"),
                        ],
                        default=0,
                    ),
                ),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "invoice",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="overdue",
                        to="billing.invoice",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "verbose_name": "overdue invoice",
                "ordering": ["id"],
                "indexes": [
                    models.Index(condition=models.Q(("ended_at", None)), fields=["organization"], name="overdue_open"),
                    models.Index(condition=models.Q(("told__lt", 5)), fields=["stops_at"], name="overdue_to_be_told"),
                ],
                "constraints": [
                    accounts.constraints.SameOrganization(field="invoice", name="overdue_is_of_its_own_invoice"),
                    models.CheckConstraint(
                        condition=models.Q(("stops_at__gte", models.F("failed_at"))),
                        name="overdue_stops_after_it_failed",
                    ),
                ],
            },
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="overdue",
            trigger=pgtrigger.compiler.Trigger(
                name="account_knows_of_new_overdue",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\n        UPDATE ledger_account SET unpaid_stops_at = found.stops_at\n        FROM (SELECT organization_id, (\n                  SELECT min(o.stops_at) FROM billing_overdue o\n                  WHERE o.organization_id = changed.organization_id AND o.ended_at IS NULL\n              ) AS stops_at\n              FROM (SELECT DISTINCT organization_id FROM fresh) AS changed) AS found\n        WHERE ledger_account.organization_id = found.organization_id\n              AND ledger_account.unpaid_stops_at IS DISTINCT FROM found.stops_at;\n        RETURN NULL;\n        ",
                    hash="2ca9998e64b965154494822e88627928cf230c45",
                    level="STATEMENT",
                    operation="INSERT",
                    pgid="pgtrigger_account_knows_of_new_overdue_159ac",
                    referencing="REFERENCING NEW TABLE AS fresh ",
                    table="billing_overdue",
                    when="AFTER",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="overdue",
            trigger=pgtrigger.compiler.Trigger(
                name="account_knows_of_changed_overdue",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\n        UPDATE ledger_account SET unpaid_stops_at = found.stops_at\n        FROM (SELECT organization_id, (\n                  SELECT min(o.stops_at) FROM billing_overdue o\n                  WHERE o.organization_id = changed.organization_id AND o.ended_at IS NULL\n              ) AS stops_at\n              FROM (SELECT DISTINCT organization_id FROM fresh) AS changed) AS found\n        WHERE ledger_account.organization_id = found.organization_id\n              AND ledger_account.unpaid_stops_at IS DISTINCT FROM found.stops_at;\n        RETURN NULL;\n        ",
                    hash="bafd90a527d57215c0aea039c813e57fa3149786",
                    level="STATEMENT",
                    operation="UPDATE",
                    pgid="pgtrigger_account_knows_of_changed_overdue_9905b",
                    referencing="REFERENCING NEW TABLE AS fresh ",
                    table="billing_overdue",
                    when="AFTER",
                ),
            ),
        ),
        migrations.AddIndex(
            model_name="paymentattempt",
            index=models.Index(fields=["organization", "-attempted_at"], name="payment_attempt_by_time"),
        ),
        migrations.AddIndex(
            model_name="paymentattempt",
            index=models.Index(fields=["attempted_at"], name="payment_attempt_by_month"),
        ),
        migrations.AddConstraint(
            model_name="paymentattempt",
            constraint=accounts.constraints.SameOrganization(
                field="invoice", name="payment_attempt_is_of_its_own_invoice"
            ),
        ),
    ]
