import pytest

from billing_portal.billing.tax import addresses, id_formats
from tests.billing.tax.places import BERLIN, NEW_YORK, PARIS


def refused(given, **but):
    with pytest.raises(addresses.AddressRefused) as error:
        addresses.check(given["country"], given | but)
    return error.value.errors


def test_an_address_is_kept_as_its_country_writes_it():
    toronto = {"line1": " 1  King St ", "city": "Toronto", "region": "ontario", "postal_code": "m5v2t6"}
    kept = addresses.check("ca", toronto)
    assert (kept["line1"], kept["region"], kept["postal_code"], kept["country"]) == ("1 King St", "ON", "M5V 2T6", "CA")
    assert addresses.lines(kept) == ["1 King St", "Toronto, ON M5V 2T6", "Canada"]
    assert addresses.lines(addresses.check("DE", BERLIN)) == ["Invalidenstraße 1", "10115 Berlin", "Germany"]
    # A part that the country has not is dropped.
    assert (
        addresses.check("GB", {"line1": "1", "city": "London", "postal_code": "sw1a 1aa", "region": "x"})["region"]
        == ""
    )


def test_parts_are_called_and_wanted_as_in_the_country():
    american = {part.name: part for part in addresses.parts("US")}
    assert (american["postal_code"].label, american["region"].label) == ("ZIP code", "State")
    assert ("NY", "New York") in american["region"].choices
    assert {part.label for part in addresses.parts("GB")} >= {"Post town", "Postal code"}
    assert {part.name for part in addresses.parts("JP")} == {"line1", "line2", "region", "postal_code"}
    assert ("北海道", "Hokkaido") in {part.name: part for part in addresses.parts("JP")}["region"].choices


def test_an_impossible_address_says_what_to_do():
    assert set(refused({"country": "US"})) == {"line1", "city", "region", "postal_code"}
    assert refused(BERLIN, postal_code="1011")["postal_code"].endswith("as they are in Germany, like 26133.")
    assert "lies elsewhere" in refused(NEW_YORK, postal_code="90210")["postal_code"]
    assert refused(NEW_YORK, region="Berlin")["region"] == "Enter the state."
    assert refused(PARIS, line1="x" * 201)["line1"] == "Use at most 200 characters."
    with pytest.raises(addresses.CountryUnknown):
        addresses.check("XX", {})


@pytest.mark.parametrize("country", ["US", "JP", "BR", "KR", "NZ", "ZA", "GB", "CH", "IN", "NO"])
def test_every_kind_of_tax_id_takes_its_own_example(country):
    for kind in id_formats.kinds_of(country):
        if "…" not in kind.example:
            assert id_formats.check(country, kind.type, kind.example)


@pytest.mark.parametrize(
    ("country", "type_", "value", "kept"),
    [
        ("DE", "eu_vat", "136 695 976", "DE136695976"),
        ("FR", "eu_vat", "fr 40 303265045", "FR40303265045"),
        ("GR", "eu_vat", "EL023456780", "EL023456780"),
        ("GB", "eu_vat", "XI 980 7806 84", "XI980780684"),
        ("GB", "gb_vat", "980 7806 84", "GB980780684"),
        ("US", "us_ein", "911144442", "91-1144442"),
        ("NO", "no_vat", "995525828", "995525828MVA"),
        ("CH", "ch_vat", "CHE107787577MWST", "CHE-107.787.577 MWST"),
    ],
)
def test_a_tax_id_is_kept_as_stripe_has_it(country, type_, value, kept):
    assert id_formats.check(country, type_, value) == kept


@pytest.mark.parametrize(
    ("country", "type_", "value", "words"),
    [
        ("DE", "eu_vat", "DE136695977", "check digits"),
        ("DE", "eu_vat", "FR40303265045", "one of France"),
        ("DE", "eu_vat", "12", "This is no VAT number (Germany)"),
        ("DE", "us_ein", "91-1144442", "Germany has no such tax ID"),
        ("US", "us_ein", "none", "like 91-1144442"),
        ("AQ", "eu_vat", "1", "Antarctica has no such tax ID"),
    ],
)
def test_a_tax_id_of_another_country_or_with_a_wrong_digit_is_refused(country, type_, value, words):
    with pytest.raises(id_formats.TaxIdRefused, match=words.replace("(", r"\(").replace(")", r"\)")):
        id_formats.check(country, type_, value)
