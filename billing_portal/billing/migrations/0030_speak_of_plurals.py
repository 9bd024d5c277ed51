from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0029_disputes_know_the_price_before_discounts"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="mismatch",
            options={"ordering": ["organization", "id"], "verbose_name_plural": "mismatches"},
        ),
    ]
