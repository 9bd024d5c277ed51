from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ledger", "0014_upgrade_buckets_and_tell_of_them"),
    ]

    operations = [
        migrations.AddField(
            model_name="account",
            name="unpaid_stops_at",
            field=models.DateTimeField(blank=True, help_text="Usage stops while an invoice is unpaid.", null=True),
        ),
    ]
