"""FOCUS 1.2, the FinOps Open Cost and Usage Specification: a row a settled call.

Source: https://focus.finops.org/focus-specification/v1-2/. All mandatory columns, those conditional and recommended
ones that a call can fill, and columns of our own, which begin with `x_` as the specification asks.

- A row is one call, priced as one: `PricingQuantity` is 1 in the unit "Calls", and the products it used are its SKU.
  Unit prices are not given, because a call's price is a sum of several; the components stand in `x_…Cost`.
- The four costs are the same. Credits are no part of a call's price: on the invoice they are lines of their own.
- A later revision of a call is a correction: its cost is what it costs more, and it has no quantities, so that nothing
  counts twice. What it costs less is a credit.
- The list price is the price that applied: for an organization with prices of its own they are not compared.
"""

from usage.exports.columns import Column, Kind, component_micros, most_places
from usage.models import Component

_SECOND = """'YYYY-MM-DD"T"HH24:MI:SS"Z"'"""
_UTC = "c.started_at AT TIME ZONE 'UTC'"
_COST = "c.amount_micros * 0.000001"


def columns() -> list[Column]:
    """Return the columns, in the order of their names, our own last."""
    places = most_places()
    return [
        Column("BilledCost", _COST, Kind.DECIMAL),
        Column("BillingAccountId", "%(account)s::text", outside=True),
        Column("BillingAccountName", "%(account_name)s::text", outside=True),
        Column("BillingCurrency", "%(currency)s::text"),
        Column("BillingPeriodEnd", "b.ends_at"),
        Column("BillingPeriodStart", "b.starts_at"),
        Column("ChargeCategory", "'Usage'"),
        Column("ChargeClass", "CASE WHEN c.revision > 1 THEN 'Correction' END"),
        Column("ChargeDescription", "'Voice call: ' || m.products_text"),
        Column("ChargeFrequency", "'Usage-Based'"),
        # Whole seconds, as the format has no others: the end is exclusive, so that no call has an empty period.
        Column(
            "ChargePeriodEnd",
            f"to_char({_UTC} + (c.duration_ms + 1000) * interval '1 millisecond', {_SECOND})",
        ),
        Column("ChargePeriodStart", f"to_char({_UTC}, {_SECOND})"),
        Column("ConsumedQuantity", "CASE WHEN c.revision = 1 THEN c.duration_ms * 0.001 END", Kind.DECIMAL),
        Column("ConsumedUnit", "'Seconds'"),
        Column("ContractedCost", _COST, Kind.DECIMAL),
        Column("EffectiveCost", _COST, Kind.DECIMAL),
        Column("InvoiceId", "b.invoice"),
        Column("InvoiceIssuerName", "%(vendor)s::text", outside=True),
        Column("ListCost", _COST, Kind.DECIMAL),
        Column("PricingCategory", "'Standard'"),
        Column("PricingCurrency", "%(currency)s::text"),
        Column("PricingQuantity", "CASE WHEN c.revision = 1 THEN 1 END", Kind.INTEGER),
        Column("PricingUnit", "'Calls'"),
        Column("ProviderName", "%(vendor)s::text", outside=True),
        Column("PublisherName", "%(vendor)s::text", outside=True),
        Column("ResourceId", "nullif(a.reference, '')", outside=True),
        Column("ResourceName", "nullif(a.name, '')", outside=True),
        Column("ResourceType", "CASE WHEN a.reference <> '' THEN 'Voice agent' END"),
        Column("ServiceCategory", "'AI and Machine Learning'"),
        Column("ServiceName", "'Voice agents'"),
        Column("ServiceSubcategory", "'Bots'"),
        Column("SkuId", "m.products_text", outside=True),
        Column("SkuPriceId", "m.products_text", outside=True),
        Column("x_CallId", "c.call_id", outside=True),
        Column("x_PriceVersion", "m.price_version"),
        Column("x_Sequence", "r.first_sequence + c.id - r.first_id", Kind.INTEGER),
        *(
            Column(
                f"x_{str(component).title().replace('_', '')}Cost",
                f"({component_micros(component, places.get(component, 0))}) * 0.000001",
                Kind.DECIMAL,
            )
            for component in Component.values
        ),
    ]
