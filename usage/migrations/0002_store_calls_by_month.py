"""Store calls by the month, with their charge in the same row, and their ids for ever.

Nothing was released with the first tables. Where they hold calls, the migration stops before it changes anything.
"""

import django.contrib.postgres.fields
import django.db.models.deletion
import pgtrigger.compiler
import pgtrigger.migrations
from django.db import migrations, models

_TABLES = """
CREATE SEQUENCE usage_call_id INCREMENT BY 10000;

CREATE TABLE usage_call (
    organization_id bigint NOT NULL,
    id bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    duration_ms bigint NOT NULL,
    amount_micros bigint,
    llm_tokens integer NOT NULL,
    llm_requests integer NOT NULL,
    mix_id integer NOT NULL,
    kind_id integer NOT NULL,
    agent_id integer NOT NULL,
    revision smallint NOT NULL,
    call_id varchar(128) NOT NULL,
    line_micros bigint[] NOT NULL,
    PRIMARY KEY (organization_id, started_at, id),
    CONSTRAINT call_duration_is_not_negative CHECK (duration_ms >= 0),
    CONSTRAINT call_amount_is_not_negative CHECK (amount_micros >= 0),
    CONSTRAINT call_ends_after_it_starts CHECK (ended_at >= started_at)
) PARTITION BY RANGE (started_at);

CREATE TABLE usage_calldetail (
    organization_id bigint NOT NULL,
    id bigint NOT NULL,
    started_at timestamptz NOT NULL,
    from_number varchar(32) NOT NULL,
    to_number varchar(32) NOT NULL,
    metadata jsonb NOT NULL,
    extra jsonb NOT NULL,
    PRIMARY KEY (organization_id, started_at, id)
) PARTITION BY RANGE (started_at);

CREATE TABLE usage_callkey (
    organization_id bigint NOT NULL,
    key uuid NOT NULL,
    digest uuid NOT NULL,
    started_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key)
) PARTITION BY HASH (key);
CREATE TABLE usage_callkey_0 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 0);
CREATE TABLE usage_callkey_1 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 1);
CREATE TABLE usage_callkey_2 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 2);
CREATE TABLE usage_callkey_3 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 3);
CREATE TABLE usage_callkey_4 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 4);
CREATE TABLE usage_callkey_5 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 5);
CREATE TABLE usage_callkey_6 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 6);
CREATE TABLE usage_callkey_7 PARTITION OF usage_callkey FOR VALUES WITH (MODULUS 8, REMAINDER 7);

CREATE TABLE usage_unratedcall (
    organization_id bigint NOT NULL,
    id bigint NOT NULL,
    started_at timestamptz NOT NULL,
    call_id varchar(128) NOT NULL,
    missing varchar(64)[] NOT NULL,
    noticed_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX unrated_call_noticed ON usage_unratedcall (noticed_at, id);

CREATE FUNCTION usage_call_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.amount_micros IS NULL
        AND (OLD.organization_id, OLD.id, OLD.started_at, OLD.ended_at, OLD.duration_ms, OLD.llm_tokens,
             OLD.llm_requests, OLD.kind_id, OLD.agent_id, OLD.revision, OLD.call_id)
        IS NOT DISTINCT FROM
            (NEW.organization_id, NEW.id, NEW.started_at, NEW.ended_at, NEW.duration_ms, NEW.llm_tokens,
             NEW.llm_requests, NEW.kind_id, NEW.agent_id, NEW.revision, NEW.call_id)
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'A recorded call is kept as it is.' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER call_is_kept BEFORE UPDATE OR DELETE ON usage_call FOR EACH ROW EXECUTE FUNCTION usage_call_is_kept();
CREATE TRIGGER call_key_is_kept BEFORE UPDATE OR DELETE ON usage_callkey
    FOR EACH ROW EXECUTE FUNCTION usage_call_is_kept();
"""


_NO_TABLES = """
DROP TABLE usage_call, usage_calldetail, usage_callkey, usage_unratedcall;
DROP FUNCTION usage_call_is_kept();
DROP SEQUENCE usage_call_id;
"""


def refuse_to_lose_calls(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM usage_call)")
        if cursor.fetchone()[0]:
            raise RuntimeError(
                "This database was made before the first release and holds calls in tables that are no more. "
                "For a demo: `make demo-stop clean`, then `make demo` makes a new one."
            )


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("usage", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(refuse_to_lose_calls, migrations.RunPython.noop),
        migrations.RemoveField(
            model_name="calldetail",
            name="call",
        ),
        migrations.RemoveField(
            model_name="charge",
            name="call",
        ),
        migrations.RemoveField(
            model_name="unratedcall",
            name="call",
        ),
        migrations.RemoveField(
            model_name="calldetail",
            name="organization",
        ),
        migrations.RemoveField(
            model_name="charge",
            name="organization",
        ),
        migrations.RemoveField(
            model_name="charge",
            name="price_version",
        ),
        migrations.RemoveField(
            model_name="dailyusage",
            name="organization",
        ),
        migrations.RemoveField(
            model_name="quarterhourusage",
            name="organization",
        ),
        migrations.RemoveField(
            model_name="unratedcall",
            name="organization",
        ),
        migrations.DeleteModel(
            name="Call",
        ),
        migrations.DeleteModel(
            name="CallDetail",
        ),
        migrations.DeleteModel(
            name="Charge",
        ),
        migrations.DeleteModel(
            name="DailyUsage",
        ),
        migrations.DeleteModel(
            name="QuarterHourUsage",
        ),
        migrations.DeleteModel(
            name="UnratedCall",
        ),
        migrations.CreateModel(
            name="Agent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("reference", models.CharField(blank=True, max_length=128)),
                ("name", models.CharField(blank=True, max_length=128)),
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
                "ordering": ["organization", "reference", "id"],
            },
        ),
        migrations.CreateModel(
            name="CallKind",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("call_type", models.CharField(max_length=16)),
                ("direction", models.CharField(blank=True, max_length=16)),
                ("status", models.CharField(max_length=24)),
                ("disconnection_reason", models.CharField(blank=True, max_length=64)),
            ],
            options={
                "ordering": ["id"],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("call_type", "direction", "status", "disconnection_reason"), name="call_kind_is_unique"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="CallRange",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id", "first_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("first_id", models.BigIntegerField()),
                ("last_id", models.BigIntegerField()),
                ("starts_at", models.DateTimeField(help_text="When its first call started.")),
                ("ends_at", models.DateTimeField(help_text="When its last call started.")),
                ("micros", models.BigIntegerField()),
                ("received_at", models.DateTimeField()),
                ("first_sequence", models.BigIntegerField(null=True)),
                ("billed_month", models.DateField(help_text="First day of the month it is billed in.", null=True)),
                ("time_zone", models.CharField(blank=True, default="", max_length=64)),
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
                "ordering": ["organization", "first_sequence", "first_id"],
            },
        ),
        migrations.CreateModel(
            name="DailyAgentUsage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "date",
                        "agent_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("date", models.DateField()),
                ("calls", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("micros", models.BigIntegerField()),
                (
                    "agent",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="usage.agent",
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
                "ordering": ["organization", "date", "agent"],
            },
        ),
        migrations.CreateModel(
            name="HourlyUsage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id", "hour_at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("hour_at", models.DateTimeField()),
                ("calls", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("micros", models.BigIntegerField()),
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
                "ordering": ["organization", "hour_at"],
            },
        ),
        migrations.CreateModel(
            name="ProductMix",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "products",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), size=None),
                ),
                (
                    "products_key",
                    models.UUIDField(help_text="The products' digest: their names may be too long for an index."),
                ),
                ("rate_ids", django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                (
                    "price_version",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="usage.priceversion",
                    ),
                ),
            ],
            options={
                "ordering": ["id"],
            },
        ),
        migrations.CreateModel(
            name="DailyUsage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id",
                        "date",
                        "mix_id",
                        "billed_month",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("date", models.DateField()),
                ("billed_month", models.DateField()),
                ("calls", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("llm_tokens", models.BigIntegerField()),
                ("micros", models.BigIntegerField()),
                (
                    "line_calls",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                ),
                (
                    "line_micros",
                    django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
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
                (
                    "mix",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="usage.productmix",
                    ),
                ),
            ],
            options={
                "ordering": ["organization", "date", "mix", "billed_month"],
            },
        ),
        migrations.AddConstraint(
            model_name="agent",
            constraint=models.UniqueConstraint(fields=("organization", "reference", "name"), name="agent_is_unique"),
        ),
        migrations.AddIndex(
            model_name="callrange",
            index=models.Index(
                condition=models.Q(("first_sequence__isnull", True)),
                fields=["organization", "starts_at", "first_id"],
                name="call_range_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="callrange",
            index=models.Index(fields=["organization", "billed_month", "first_sequence"], name="call_range_by_month"),
        ),
        migrations.AddConstraint(
            model_name="callrange",
            constraint=models.UniqueConstraint(
                fields=("organization", "first_sequence"), name="call_range_sequence_is_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="callrange",
            constraint=models.CheckConstraint(
                condition=models.Q(("last_id__gte", models.F("first_id"))), name="call_range_is_a_range"
            ),
        ),
        migrations.AddConstraint(
            model_name="callrange",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("billed_month__isnull", True), ("first_sequence__isnull", True), ("time_zone", "")),
                    models.Q(
                        ("billed_month__isnull", False),
                        ("first_sequence__gt", 0),
                        models.Q(("time_zone", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="call_range_is_settled_whole",
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="callrange",
            trigger=pgtrigger.compiler.Trigger(
                name="call_range_is_kept",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot delete rows from % table', TG_TABLE_NAME;",
                    hash="c77e344ea3d15efd8a8b75c77e3beb0aa489a8f2",
                    operation="DELETE",
                    pgid="pgtrigger_call_range_is_kept_fd42f",
                    table="usage_callrange",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="callrange",
            trigger=pgtrigger.compiler.Trigger(
                name="settled_call_range_is_kept",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    condition='WHEN (OLD."first_sequence" IS NOT NULL)',
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update rows from % table', TG_TABLE_NAME;",
                    hash="8fb7448d3b7d0ce9ba6370bec0fcaddec5f9b56d",
                    operation="UPDATE",
                    pgid="pgtrigger_settled_call_range_is_kept_06199",
                    table="usage_callrange",
                    when="BEFORE",
                ),
            ),
        ),
        migrations.AddConstraint(
            model_name="productmix",
            constraint=models.UniqueConstraint(
                fields=("price_version", "products_key"), name="product_mix_is_unique", nulls_distinct=False
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="productmix",
            trigger=pgtrigger.compiler.Trigger(
                name="product_mix_is_kept",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;",
                    hash="a2d28ce8871a617d3f0acc0839b4dbc38db66ef3",
                    operation="UPDATE OR DELETE",
                    pgid="pgtrigger_product_mix_is_kept_64e52",
                    table="usage_productmix",
                    when="BEFORE",
                ),
            ),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name="productmix",
            trigger=pgtrigger.compiler.Trigger(
                name="price_version_is_used",
                sql=pgtrigger.compiler.UpsertTriggerSql(
                    func="\n                    UPDATE usage_priceversion SET is_used = true WHERE id IN (\n                        SELECT id FROM usage_priceversion\n                        WHERE NOT is_used AND id IN (SELECT price_version_id FROM fresh)\n                        ORDER BY id FOR NO KEY UPDATE\n                    );\n                    RETURN NULL;\n                ",
                    hash="f7b515983903bea94653fead05ff7d7c3f530c67",
                    level="STATEMENT",
                    operation="INSERT",
                    pgid="pgtrigger_price_version_is_used_3f124",
                    referencing="REFERENCING NEW TABLE AS fresh ",
                    table="usage_productmix",
                    when="AFTER",
                ),
            ),
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(_TABLES, _NO_TABLES)],
            state_operations=[
                migrations.CreateModel(
                    name="CallDetail",
                    fields=[
                        ("id", models.BigIntegerField(help_text="The call's.", primary_key=True, serialize=False)),
                        ("started_at", models.DateTimeField()),
                        ("from_number", models.CharField(max_length=32)),
                        ("to_number", models.CharField(max_length=32)),
                        ("metadata", models.JSONField()),
                        (
                            "extra",
                            models.JSONField(help_text="Fields of the call object that the portal does not interpret."),
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
                        "db_table": "usage_calldetail",
                    },
                ),
                migrations.CreateModel(
                    name="CallKey",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "organization_id", "key", blank=True, editable=False, primary_key=True, serialize=False
                            ),
                        ),
                        ("key", models.UUIDField()),
                        ("digest", models.UUIDField()),
                        ("started_at", models.DateTimeField()),
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
                        "db_table": "usage_callkey",
                    },
                ),
                migrations.CreateModel(
                    name="Call",
                    fields=[
                        ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                        ("started_at", models.DateTimeField()),
                        ("ended_at", models.DateTimeField(null=True)),
                        ("duration_ms", models.BigIntegerField()),
                        ("amount_micros", models.BigIntegerField(null=True)),
                        ("llm_tokens", models.IntegerField(help_text="Sum over all requests.")),
                        ("llm_requests", models.IntegerField()),
                        ("revision", models.SmallIntegerField()),
                        ("call_id", models.CharField(max_length=128)),
                        (
                            "line_micros",
                            django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None),
                        ),
                        (
                            "agent",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="+",
                                to="usage.agent",
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
                        (
                            "kind",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="+",
                                to="usage.callkind",
                            ),
                        ),
                        (
                            "mix",
                            models.ForeignKey(
                                db_constraint=False,
                                db_index=False,
                                on_delete=django.db.models.deletion.PROTECT,
                                related_name="+",
                                to="usage.productmix",
                            ),
                        ),
                    ],
                    options={
                        "db_table": "usage_call",
                        "ordering": ["-started_at", "-id"],
                    },
                ),
                migrations.CreateModel(
                    name="UnratedCall",
                    fields=[
                        ("id", models.BigIntegerField(help_text="The call's.", primary_key=True, serialize=False)),
                        ("started_at", models.DateTimeField()),
                        ("call_id", models.CharField(max_length=128)),
                        (
                            "missing",
                            django.contrib.postgres.fields.ArrayField(
                                base_field=models.CharField(max_length=64), size=None
                            ),
                        ),
                        ("noticed_at", models.DateTimeField()),
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
                        "db_table": "usage_unratedcall",
                        "ordering": ["noticed_at", "id"],
                    },
                ),
            ],
        ),
    ]
