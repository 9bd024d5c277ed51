from django.db import migrations

ACCRUED = """
    UPDATE ledger_account SET accrued_micros = found.micros
    FROM (SELECT organization_id, -sum(micros) AS micros FROM ledger_entry WHERE book = 'receivable' GROUP BY 1) AS found
    WHERE ledger_account.organization_id = found.organization_id"""

SPENT = """
    INSERT INTO ledger_monthspend (organization_id, month, gross_micros)
    SELECT organization_id, month, sum(gross_micros) FROM ledger_settlement GROUP BY 1, 2"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0005_caps_and_reservations")]

    operations = [
        migrations.RunSQL(ACCRUED, migrations.RunSQL.noop),
        migrations.RunSQL(SPENT, "DELETE FROM ledger_monthspend"),
    ]
