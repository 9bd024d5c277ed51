"""What other currencies are worth, for estimates alone: no amount of money is ever computed from it."""

from django.db import models


class ExchangeRate(models.Model):
    """How much of another currency one unit of a currency was worth on a day, and who says so."""

    base = models.CharField(max_length=3, help_text="One unit of this currency, like EUR …")
    quote = models.CharField(max_length=3, help_text="… is so much of this one, like JPY.")
    quote_micros = models.BigIntegerField(help_text="Micros of the other currency for one unit.")
    as_of = models.DateField(help_text="The day of the rate.")
    source = models.CharField(max_length=100, help_text="For the customer to read, like: European Central Bank.")

    class Meta:
        ordering = ["base", "quote", "-as_of"]
        constraints = [
            models.UniqueConstraint(fields=["base", "quote", "as_of"], name="exchange_rate_is_one_a_day"),
            models.CheckConstraint(condition=models.Q(quote_micros__gt=0), name="exchange_rate_is_positive"),
            models.CheckConstraint(condition=~models.Q(base=models.F("quote")), name="exchange_rate_is_of_another"),
            models.CheckConstraint(
                condition=models.Q(base__regex="^[A-Z]{3}$", quote__regex="^[A-Z]{3}$"),
                name="exchange_rate_names_currencies",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.base} in {self.quote} on {self.as_of}"
