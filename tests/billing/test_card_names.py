"""What people call a card."""

import pytest

from billing_portal.billing import card_names


@pytest.mark.parametrize(
    ("brand", "kind", "last4", "name"),
    [
        ("visa", "card", "4242", "Visa 4242"),
        ("amex", "card", "0005", "American Express 0005"),
        ("unknown", "card", "1111", "Card 1111"),
        ("brand_of_tomorrow", "card", "1111", "Brand of tomorrow 1111"),
        ("", "link", "", "Link"),
        ("", "us_bank_account", "6789", "Us bank account 6789"),
        ("", "", "", ""),
    ],
)
def test_a_card_has_the_name_that_stands_on_it(brand: str, kind: str, last4: str, name: str) -> None:
    assert card_names.of(brand, kind, last4) == name
