from django.db import migrations

HAS_CARD = """
    UPDATE ledger_account SET has_card = true WHERE organization_id IN (
        SELECT organization_id FROM billing_paymentmethod WHERE is_default AND removed_at IS NULL)"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_account_knows_of_cards"), ("ledger", "0006_fill_caches_of_limits")]

    operations = [migrations.RunSQL(HAS_CARD, migrations.RunSQL.noop)]
