import uuid

import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0001_initial"),
        ("ledger", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Meter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "component",
                    models.CharField(
                        choices=[
                            ("platform", "Platform"),
                            ("voice", "Voice engine"),
                            ("llm", "Language model"),
                            ("telephony", "Telephony"),
                            ("add_on", "Add-ons"),
                            ("per_call", "Per-call items"),
                            ("token_surcharge", "Token surcharge"),
                        ],
                        max_length=24,
                        unique=True,
                    ),
                ),
                ("event_name", models.CharField(max_length=100, unique=True)),
                ("stripe_meter_id", models.CharField(max_length=255, unique=True)),
                ("stripe_product_id", models.CharField(max_length=255)),
            ],
        ),
        migrations.CreateModel(
            name="CardSetup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_setup_intent_id", models.CharField(max_length=255, unique=True)),
                ("mandate_version", models.CharField(max_length=32)),
                ("mandate_text", models.TextField()),
                ("mandate_accepted_at", models.DateTimeField(null=True)),
                ("refused_reason", models.CharField(blank=True, default="", max_length=200)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "mandate_accepted_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_customer_id", models.CharField(max_length=255, unique=True)),
                ("stripe_subscription_id", models.CharField(max_length=255, null=True, unique=True)),
                (
                    "subscribed_at",
                    models.DateTimeField(help_text="Usage before this instant is not billed by Stripe.", null=True),
                ),
                ("created_at", models.DateTimeField()),
                (
                    "deleted_at",
                    models.DateTimeField(
                        help_text="When Stripe said that it is gone there; our books stay.", null=True
                    ),
                ),
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="customer", to="accounts.organization"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="InboxEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_event_id", models.CharField(max_length=255, unique=True)),
                ("type", models.CharField(max_length=100)),
                ("api_version", models.CharField(blank=True, default="", max_length=40)),
                ("livemode", models.BooleanField(default=False)),
                ("stripe_customer_id", models.CharField(blank=True, default="", max_length=255)),
                ("object_id", models.CharField(blank=True, default="", max_length=255)),
                ("payload", models.JSONField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("received", "Received"),
                            ("done", "Done"),
                            ("ignored", "No receiver"),
                            ("parked", "Parked"),
                        ],
                        default="received",
                        max_length=16,
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        blank=True, default="", help_text="Why it is parked, or failed last.", max_length=300
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("occurred_at", models.DateTimeField(help_text="Stripe's time of the event.")),
                ("received_at", models.DateTimeField(auto_now_add=True)),
                ("retry_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-id"],
                "indexes": [
                    models.Index(condition=models.Q(("state", "received")), fields=["id"], name="inbox_waiting"),
                    models.Index(fields=["stripe_customer_id", "-id"], name="inbox_by_customer"),
                    models.Index(fields=["object_id"], name="inbox_by_object"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("public_id", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("stripe_invoice_id", models.CharField(max_length=255, unique=True)),
                (
                    "month",
                    models.DateField(help_text="The month of usage it bills; none for other invoices.", null=True),
                ),
                ("number", models.CharField(blank=True, default="", max_length=64)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("draft", "Draft"),
                            ("open", "Open"),
                            ("paid", "Paid"),
                            ("uncollectible", "Uncollectible"),
                            ("void", "Void"),
                        ],
                        default="draft",
                        max_length=16,
                    ),
                ),
                ("currency", models.CharField(max_length=3)),
                ("subtotal_minor", models.BigIntegerField(default=0)),
                ("tax_minor", models.BigIntegerField(default=0)),
                ("total_minor", models.BigIntegerField(default=0)),
                ("amount_due_minor", models.BigIntegerField(default=0)),
                ("amount_paid_minor", models.BigIntegerField(default=0)),
                ("starting_balance_minor", models.BigIntegerField(default=0)),
                ("ending_balance_minor", models.BigIntegerField(null=True)),
                ("hosted_invoice_url", models.URLField(blank=True, default="", max_length=2000)),
                ("invoice_pdf_url", models.URLField(blank=True, default="", max_length=2000)),
                ("next_payment_attempt_at", models.DateTimeField(null=True)),
                ("drafted_at", models.DateTimeField()),
                ("finalized_at", models.DateTimeField(null=True)),
                ("paid_at", models.DateTimeField(null=True)),
                ("credited_at", models.DateTimeField(help_text="When all credit lines were on.", null=True)),
                (
                    "waiting_for",
                    models.CharField(blank=True, default="", help_text="Why a draft cannot go on yet.", max_length=300),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="invoices", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ["-drafted_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="CreditLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "grant_kind",
                    models.CharField(
                        choices=[
                            ("welcome", "Welcome credit"),
                            ("prepaid", "Prepaid credit"),
                            ("goodwill", "Goodwill credit"),
                            ("correction", "Correction"),
                        ],
                        max_length=16,
                    ),
                ),
                (
                    "component",
                    models.CharField(
                        choices=[
                            ("platform", "Platform"),
                            ("voice", "Voice engine"),
                            ("llm", "Language model"),
                            ("telephony", "Telephony"),
                            ("add_on", "Add-ons"),
                            ("per_call", "Per-call items"),
                            ("token_surcharge", "Token surcharge"),
                        ],
                        max_length=24,
                    ),
                ),
                ("micros", models.BigIntegerField()),
                ("amount_minor", models.BigIntegerField(help_text="Positive; enters the invoice negative.")),
                ("stripe_invoice_item_id", models.CharField(blank=True, default="", max_length=255)),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organization"
                    ),
                ),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="credit_lines", to="billing.invoice"
                    ),
                ),
            ],
            options={
                "ordering": ["invoice", "id"],
            },
        ),
        migrations.CreateModel(
            name="InvoiceLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_line_id", models.CharField(max_length=255)),
                ("position", models.PositiveIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[("usage", "Usage"), ("credit", "Credit"), ("other", "Other")], max_length=16
                    ),
                ),
                (
                    "component",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("platform", "Platform"),
                            ("voice", "Voice engine"),
                            ("llm", "Language model"),
                            ("telephony", "Telephony"),
                            ("add_on", "Add-ons"),
                            ("per_call", "Per-call items"),
                            ("token_surcharge", "Token surcharge"),
                        ],
                        default="",
                        max_length=24,
                    ),
                ),
                (
                    "grant_kind",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("welcome", "Welcome credit"),
                            ("prepaid", "Prepaid credit"),
                            ("goodwill", "Goodwill credit"),
                            ("correction", "Correction"),
                        ],
                        default="",
                        max_length=16,
                    ),
                ),
                ("description", models.CharField(blank=True, default="", max_length=500)),
                ("quantity", models.BigIntegerField(null=True)),
                ("amount_minor", models.BigIntegerField()),
                ("currency", models.CharField(max_length=3)),
                (
                    "invoice",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="lines", to="billing.invoice"
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "ordering": ["invoice", "position"],
            },
        ),
        migrations.CreateModel(
            name="MeterPrice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("currency", models.CharField(max_length=3)),
                ("stripe_price_id", models.CharField(max_length=255, unique=True)),
                (
                    "meter",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="prices", to="billing.meter"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="PaymentMethod",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("stripe_payment_method_id", models.CharField(max_length=255, unique=True)),
                ("kind", models.CharField(max_length=24)),
                ("brand", models.CharField(blank=True, default="", max_length=32)),
                ("last4", models.CharField(blank=True, default="", max_length=4)),
                ("expires_month", models.PositiveSmallIntegerField(null=True)),
                ("expires_year", models.PositiveSmallIntegerField(null=True)),
                ("funding", models.CharField(blank=True, default="", max_length=16)),
                ("fingerprint", models.CharField(blank=True, default="", max_length=64)),
                ("is_default", models.BooleanField(default=False)),
                ("mandate_version", models.CharField(blank=True, default="", max_length=32)),
                ("mandate_text", models.TextField(blank=True, default="")),
                ("mandate_accepted_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("removed_at", models.DateTimeField(null=True)),
                ("detached_at", models.DateTimeField(help_text="When Stripe was told of the removal.", null=True)),
                (
                    "mandate_accepted_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payment_methods",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["-is_default", "-created_at", "-id"],
            },
        ),
        migrations.CreateModel(
            name="ReportBatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField()),
                ("created_at", models.DateTimeField()),
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
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="Report",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "component",
                    models.CharField(
                        choices=[
                            ("platform", "Platform"),
                            ("voice", "Voice engine"),
                            ("llm", "Language model"),
                            ("telephony", "Telephony"),
                            ("add_on", "Add-ons"),
                            ("per_call", "Per-call items"),
                            ("token_surcharge", "Token surcharge"),
                        ],
                        max_length=24,
                    ),
                ),
                ("micros", models.BigIntegerField()),
                ("identifier", models.CharField(max_length=100, unique=True)),
                ("minute_at", models.DateTimeField(null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("sending", "Sent, answer unknown"),
                            ("accepted", "Accepted"),
                            ("rejected", "Rejected"),
                        ],
                        default="waiting",
                        max_length=16,
                    ),
                ),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("error", models.JSONField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("accepted_at", models.DateTimeField(null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
                (
                    "batch",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="reports", to="billing.reportbatch"
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="ReportedSettlement",
            fields=[
                (
                    "settlement",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="reported",
                        serialize=False,
                        to="ledger.settlement",
                    ),
                ),
                (
                    "batch",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="settlements",
                        to="billing.reportbatch",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Intent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("verb", models.CharField(max_length=64)),
                ("reference", models.CharField(max_length=200, unique=True)),
                ("idempotency_key", models.CharField(max_length=255, unique=True)),
                ("params", models.JSONField(default=dict)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Not sent, or the answer was lost"),
                            ("done", "Done"),
                            ("failed", "Refused by Stripe"),
                            ("unknown", "Unknown: the key is too old to tell"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("stripe_id", models.CharField(blank=True, default="", max_length=255)),
                ("error", models.JSONField(null=True)),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [
                    models.Index(condition=models.Q(("state", "pending")), fields=["created_at"], name="intent_pending")
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="invoice",
            constraint=models.UniqueConstraint(
                condition=models.Q(("month__isnull", False), models.Q(("state", "void"), _negated=True)),
                fields=("organization", "month"),
                name="invoice_is_one_a_month",
            ),
        ),
        migrations.AddConstraint(
            model_name="creditline",
            constraint=models.UniqueConstraint(
                fields=("invoice", "grant_kind", "component"), name="credit_line_is_one_a_kind_and_component"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditline",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_minor__gte", 0)), name="credit_line_is_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="invoiceline",
            constraint=models.UniqueConstraint(
                fields=("invoice", "stripe_line_id"), name="invoice_line_is_one_a_stripe_line"
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="invoiceline",
            trigger=pgtrigger.compiler.Trigger(
                name="final_lines_stand",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\n                IF EXISTS (SELECT 1 FROM billing_invoice WHERE id = OLD.invoice_id AND state <> 'draft') THEN\n                    RAISE EXCEPTION 'invoice % is final', OLD.invoice_id\n                        USING ERRCODE = 'integrity_constraint_violation';\n                END IF;\n                RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;\n                ",
                    hash="3d5df0c7e7005bb579f10b6870a919fa537d6387",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_final_lines_stand_af3f3",
                    table="billing_invoiceline",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="meterprice",
            constraint=models.UniqueConstraint(fields=("meter", "currency"), name="meter_price_is_one_a_currency"),
        ),
        migrations.AddConstraint(
            model_name="paymentmethod",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_default", True), ("removed_at__isnull", True)),
                fields=("organization",),
                name="payment_method_is_one_default",
            ),
        ),
        migrations.AddIndex(
            model_name="reportbatch",
            index=models.Index(fields=["organization", "month"], name="report_batch_by_month"),
        ),
        migrations.AddIndex(
            model_name="report",
            index=models.Index(
                condition=models.Q(("state", "accepted"), _negated=True),
                fields=["organization", "component"],
                name="report_not_accepted",
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.UniqueConstraint(fields=("batch", "component"), name="report_is_one_a_component"),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.UniqueConstraint(
                fields=("organization", "component", "minute_at"), name="report_has_its_own_minute"
            ),
        ),
        migrations.AddConstraint(
            model_name="report",
            constraint=models.CheckConstraint(condition=models.Q(("micros__gt", 0)), name="report_is_positive"),
        ),
    ]
