from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0019_units_whose_payment_went_back"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="bucketentry",
            options={"ordering": ["organization", "bucket", "id"], "verbose_name_plural": "bucket entries"},
        ),
    ]
