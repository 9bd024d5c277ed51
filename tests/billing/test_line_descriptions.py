"""What the lines of outcomes say at Stripe."""

import pytest

from billing_portal.billing import line_descriptions
from usage.outcomes.billed import AtPrice


@pytest.mark.parametrize(
    ("currency", "micros", "said"),
    [
        ("USD", 990_000, "Resolutions 1,234 × $0.99"),
        ("USD", 152_150, "Resolutions 1,234 × $0.15215"),
        ("JPY", 150_000_000, "Resolutions 1,234 × ¥150"),
        ("KWD", 300_000, "Resolutions 1,234 × KWD\N{NO-BREAK SPACE}0.300"),
    ],
)
def test_a_line_says_how_many_at_which_price(currency: str, micros: int, said: str) -> None:
    assert line_descriptions.of_outcomes("resolution", [AtPrice(1_234, micros)], currency) == said
