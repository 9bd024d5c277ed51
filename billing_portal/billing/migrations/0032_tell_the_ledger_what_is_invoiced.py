from django.db import migrations

_FILL = """
    UPDATE ledger_period p SET invoiced_micros = billed.micros
    FROM (SELECT i.organization_id, i.month, sum(l.micros) AS micros
          FROM billing_interiminvoice i
          JOIN billing_interimline l ON (l.organization_id, l.interim_id) = (i.organization_id, i.id)
          WHERE i.state <> 'void' GROUP BY 1, 2) AS billed
    WHERE (p.organization_id, p.month) = (billed.organization_id, billed.month)"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0031_debts_say_what_they_rest_on"),
        ("ledger", "0021_know_what_is_invoiced"),
    ]

    operations = [migrations.RunSQL(_FILL, migrations.RunSQL.noop)]
