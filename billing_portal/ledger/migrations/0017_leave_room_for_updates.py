from django.db import migrations

# Rows that every settlement changes: where their page has room, no index is touched.
_TABLES = ("ledger_account", "ledger_monthspend")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0016_lower_spend_by_what_is_given_back")]

    operations = [
        migrations.RunSQL(f"ALTER TABLE {table} SET (fillfactor = 50)", f"ALTER TABLE {table} RESET (fillfactor)")
        for table in _TABLES
    ]
