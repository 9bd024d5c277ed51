from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_answers_kept_for_repeated_requests"),
        ("billing", "0018_payment_attempts_and_overdue_invoices"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="cardsetup",
            name="address_mark",
            field=models.CharField(blank=True, default="", help_text="Tells addresses apart, no more.", max_length=40),
        ),
        migrations.AddField(
            model_name="cardsetup",
            name="fingerprint",
            field=models.CharField(blank=True, default="", help_text="Of the card tried last.", max_length=64),
        ),
        migrations.AddIndex(
            model_name="cardsetup",
            index=models.Index(fields=["fingerprint", "created_at"], name="card_setup_by_card"),
        ),
        migrations.AddIndex(
            model_name="cardsetup",
            index=models.Index(fields=["address_mark", "created_at"], name="card_setup_by_address"),
        ),
    ]
