from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

# A waiting range has neither number nor month, and need not stand in their indexes: recording calls has half the work
# with ranges then. The old unique index guards until the new one is there, and nobody waits for a lock for long. Each
# step can be taken again, as a migration is that gave up for a lock.
# Building an index concurrently waits for transactions, not for locks that others queue behind: it may take its time.
_WAIT, _WAIT_LITTLE = "SET lock_timeout = 0", "SET lock_timeout = '3s'"
_CLEAR = "DROP INDEX CONCURRENTLY IF EXISTS call_range_sequence_is_unique_new"
_MAKE_UNIQUE = """
CREATE UNIQUE INDEX CONCURRENTLY call_range_sequence_is_unique_new
ON usage_callrange (organization_id, first_sequence) WHERE first_sequence IS NOT NULL"""
_EXCHANGE = """
DO $$ BEGIN
    ALTER TABLE usage_callrange DROP CONSTRAINT IF EXISTS call_range_sequence_is_unique;
    DROP INDEX IF EXISTS call_range_sequence_is_unique;
    ALTER INDEX call_range_sequence_is_unique_new RENAME TO call_range_sequence_is_unique;
END $$"""
_DROP_INDEX = "DROP INDEX call_range_sequence_is_unique"
_MAKE_CONSTRAINT = """
ALTER TABLE usage_callrange ADD CONSTRAINT call_range_sequence_is_unique UNIQUE (organization_id, first_sequence)"""
_BY_MONTH = ["organization", "billed_month", "first_sequence"]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("usage", "0006_import_files_in_the_background")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(_WAIT, migrations.RunSQL.noop),
                migrations.RunSQL(_CLEAR, migrations.RunSQL.noop),
                migrations.RunSQL(_MAKE_UNIQUE, migrations.RunSQL.noop),
                migrations.RunSQL(_WAIT_LITTLE, migrations.RunSQL.noop),
                migrations.RunSQL([_EXCHANGE], [_DROP_INDEX, _MAKE_CONSTRAINT]),
                migrations.RunSQL(_WAIT, migrations.RunSQL.noop),
            ],
            state_operations=[
                migrations.RemoveConstraint(model_name="callrange", name="call_range_sequence_is_unique"),
                migrations.AddConstraint(
                    model_name="callrange",
                    constraint=models.UniqueConstraint(
                        fields=["organization", "first_sequence"],
                        condition=models.Q(first_sequence__isnull=False),
                        name="call_range_sequence_is_unique",
                    ),
                ),
            ],
        ),
        RemoveIndexConcurrently(model_name="callrange", name="call_range_by_month"),
        AddIndexConcurrently(
            model_name="callrange",
            index=models.Index(
                fields=_BY_MONTH, condition=models.Q(billed_month__isnull=False), name="call_range_by_month"
            ),
        ),
        migrations.RunSQL(_WAIT_LITTLE, migrations.RunSQL.noop),
    ]
