import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_keys_that_customers_make"),
        ("usage", "0002_store_calls_by_month"),
    ]

    operations = [
        migrations.CreateModel(
            name="Redelivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "duplicates",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                ),
                (
                    "conflicts",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                ),
                ("received_at", models.DateTimeField()),
                (
                    "api_key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "redeliveries",
                "ordering": ["organization", "-received_at", "-id"],
                "indexes": [models.Index(fields=["organization", "received_at", "id"], name="redelivery_by_time")],
            },
        ),
        migrations.CreateModel(
            name="Rejection",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.UUIDField()),
                ("call_id", models.CharField(blank=True, max_length=128)),
                ("index", models.PositiveIntegerField(help_text="Place of the item in its request, from 0.")),
                ("field", models.CharField(blank=True, max_length=200)),
                ("reason", models.CharField(max_length=500)),
                ("times", models.BigIntegerField(default=1)),
                ("first_received_at", models.DateTimeField()),
                ("last_received_at", models.DateTimeField()),
                (
                    "api_key",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.apikey",
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
                "ordering": ["organization", "-last_received_at", "id"],
                "indexes": [models.Index(fields=["organization", "last_received_at"], name="rejection_by_time")],
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "key"), name="rejection_is_one_row_a_call")
                ],
            },
        ),
        migrations.CreateModel(
            name="SequenceNote",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=64)),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("missing", models.BigIntegerField(default=0)),
                ("latest_at", models.DateTimeField(help_text="When the last of the calls was over.", null=True)),
                ("received_at", models.DateTimeField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
                "indexes": [models.Index(fields=["organization", "source", "id"], name="sequence_note_by_source")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("first__gte", 0), ("last__gte", models.F("first"))),
                        name="sequence_note_is_a_range",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SequenceRange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("source", models.CharField(max_length=64)),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("missing", models.BigIntegerField(default=0)),
                ("latest_at", models.DateTimeField(help_text="When the last of the calls was over.", null=True)),
                ("first_received_at", models.DateTimeField()),
                ("last_received_at", models.DateTimeField()),
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
                "ordering": ["organization", "source", "first"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "source", "first"), name="sequence_range_starts_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("first__gte", 0), ("last__gte", models.F("first"))),
                        name="sequence_range_is_a_range",
                    ),
                ],
            },
        ),
    ]
