from django.db import migrations

# PostgreSQL's sum of bigints is a numeric. Where a settlement makes nearly as many cells as it has calls, turning a
# dozen of them back into bigints took half of the adding up.
_CREATE = """
    CREATE AGGREGATE usage_sum(bigint) (
        sfunc = int8pl, stype = bigint, initcond = '0', combinefunc = int8pl, parallel = safe
    )"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0018_leave_room_for_updates")]

    operations = [migrations.RunSQL(_CREATE, "DROP AGGREGATE usage_sum(bigint)")]
