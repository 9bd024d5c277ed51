from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0020_speak_of_plurals"),
    ]

    operations = [
        migrations.AddField(
            model_name="period",
            name="invoiced_micros",
            field=models.BigIntegerField(
                db_default=0,
                default=0,
                help_text="Of what the month accrued, the part that interim invoices bill, paid or not.",
            ),
        ),
    ]
