"""What an invoice's lines say at Stripe: the meters count micros, and people read outcomes and their price.

A description changes no amount. Where Stripe does not take one for a metered line, the line says what Stripe says.
"""

import re
import uuid
from collections.abc import Sequence
from decimal import Decimal

import structlog
from babel import numbers

from billing_portal.billing import gateway
from billing_portal.billing.models import Invoice, InvoiceLine
from usage.models import Billable
from usage.money import MICROS_PER_UNIT
from usage.outcomes import billed
from usage.outcomes.billed import AtPrice

# A currency's letters beside a figure, which Unicode's locale data part and babel does not: "KWD 0.300".
_TOUCHING = re.compile(r"(?<=[^\W\d_])(?=\d)")

log = structlog.get_logger(__name__)


def put_on(invoice: Invoice, lines: Sequence[InvoiceLine]) -> None:
    """Let the draft's lines of outcomes say how many there were and at which price; `lines` are those Stripe has.

    Call it for a closed month. Repeating it is harmless. Raises gateway.Unavailable and RateLimited.
    """
    if invoice.month is None:
        return
    prices = billed.at_prices(invoice.organization_id, invoice.month)
    for line in lines:
        if line.kind == InvoiceLine.Kind.USAGE and line.component in prices:
            text = of_outcomes(line.component, prices[line.component], invoice.currency)
            if line.description != text:
                _put(invoice, line, text)


def of_outcomes(outcome: str, prices: Sequence[AtPrice], currency: str) -> str:
    """Return "Resolutions 1,234 × $0.99"; of several prices each with its own number."""
    parts = [f"{each.outcomes:,} × {_money(each.price_micros, currency)}" for each in prices]
    return f"{Billable(outcome).label} {' + '.join(parts)}"


def _money(micros: int, currency: str) -> str:
    amount = Decimal(micros) / MICROS_PER_UNIT
    text = numbers.format_currency(amount, currency, locale="en_US", decimal_quantization=False)
    return _TOUCHING.sub("\N{NO-BREAK SPACE}", text)


def _put(invoice: Invoice, line: InvoiceLine, text: str) -> None:
    try:
        gateway.update_invoice_line(
            invoice.stripe_invoice_id, line.stripe_line_id, {"description": text}, str(uuid.uuid4())
        )
    except gateway.Refused as error:
        log.warning("description refused", organization_id=invoice.organization_id, code=error.code)
