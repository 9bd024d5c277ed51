"""Which tax ids a country has, as Stripe names them, and what they must look like: pure, nobody is asked.

Check digits are `python-stdnum`'s. Where it knows none, the shape alone is looked at, and Stripe decides.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from stdnum.au import abn
from stdnum.br import cnpj
from stdnum.ca import bn
from stdnum.ch import vat as ch_vat
from stdnum.cl import rut
from stdnum.co import nit
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import InvalidChecksum, ValidationError
from stdnum.gb import vat as gb_vat
from stdnum.id import npwp
from stdnum.in_ import gstin
from stdnum.is_ import vsk
from stdnum.jp import cn
from stdnum.kr import brn
from stdnum.mx import rfc
from stdnum.no import mva
from stdnum.nz import ird
from stdnum.rs import pib
from stdnum.sg import uen
from stdnum.th import tin as th_tin
from stdnum.tr import vkn
from stdnum.tw import ubn
from stdnum.us import ein

from billing_portal.billing.tax import addresses

UNION = tuple("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())  # noqa: SIM905 - to be read
# Greece signs its VAT numbers with the language's letters, Northern Ireland trades by the Union's rules.
_PREFIXES = {"GR": "EL", "GB": "XI"}
# Stripe looks these up in the official registers by itself.
LOOKED_UP = frozenset({"eu_vat", "gb_vat", "au_abn"})


class TaxIdRefused(ValueError):
    """The number cannot be such a tax id; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of tax id: Stripe's name of it, ours, and how a number is checked and written."""

    type: str
    label: str
    example: str
    check: Callable[[str], str]


def _by(module: ModuleType, write: Callable[[str], str] | None = None) -> Callable[[str], str]:
    """Return a check by a module of stdnum, which raises its ValidationError, then the number as Stripe has it."""

    def checked(value: str) -> str:
        compact: str = module.validate(value)
        return write(compact) if write else compact

    return checked


def _shaped(pattern: str, write: Callable[[str], str] = lambda value: value) -> Callable[[str], str]:
    def checked(value: str) -> str:
        compact = re.sub(r"[\s.]", "", value).upper()
        if not re.fullmatch(pattern, compact):
            raise ValidationError
        return write(compact)

    return checked


def _invoice_issuer(value: str) -> str:
    """Return the number of a registered Japanese issuer of invoices: a T and a corporate or a personal number."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if not re.fullmatch(r"T\d{13}", compact):
        raise ValidationError
    return compact


def _norwegian(value: str) -> str:
    """Return a Norwegian number with the letters that say it is one of VAT, whether or not they were given."""
    compact = re.sub(r"[\s.]", "", value).upper().removeprefix("NO").removesuffix("MVA")
    return str(mva.validate(f"{compact}MVA"))


def _union(country: str) -> Kind:
    prefix = _PREFIXES.get(country, country)
    label = "VAT number of Northern Ireland" if prefix == "XI" else "VAT number"
    return Kind("eu_vat", label, f"{prefix}…", lambda value: _of_union(value, country, prefix))


def _of_union(value: str, country: str, prefix: str) -> str:
    compact = re.sub(r"[\s.-]", "", value).upper()
    stated = compact[:2]
    if stated.isalpha() and stated != prefix:
        # Some national numbers begin with letters of their own; a country's is another matter.
        others = {_PREFIXES.get(each, each): each for each in UNION}
        if stated in others:
            there = addresses.countries()[others[stated]]
            raise TaxIdRefused(
                f"This number begins with {stated}: it is one of {there}. Enter that of {_name(country)}."
            )
    if not compact.startswith(prefix):
        compact = prefix + compact
    if prefix == "XI":
        return "XI" + str(gb_vat.validate(compact[2:]))
    return str(eu_vat.validate(compact))


def _name(country: str) -> str:
    return addresses.countries().get(country, country)


_KINDS: dict[str, tuple[Kind, ...]] = {country: (_union(country),) for country in UNION} | {
    "AE": (Kind("ae_trn", "Tax registration number", "123456789012345", _shaped(r"\d{15}")),),
    "AU": (Kind("au_abn", "Australian business number", "51 824 753 556", _by(abn)),),
    "BR": (Kind("br_cnpj", "CNPJ", "16.727.230/0001-97", _by(cnpj, cnpj.format)),),
    "CA": (
        Kind("ca_bn", "Business number", "12302 6635", _by(bn)),
        Kind("ca_gst_hst", "GST/HST number", "12302 6635 RT 0001", _by(bn)),
    ),
    "CH": (Kind("ch_vat", "VAT number", "CHE-107.787.577 MWST", _by(ch_vat, ch_vat.format)),),
    "CL": (Kind("cl_tin", "RUT", "76.086.428-5", _by(rut, rut.format)),),
    "CO": (Kind("co_nit", "NIT", "213.123.432-1", _by(nit, nit.format)),),
    "GB": (
        Kind("gb_vat", "VAT number", "GB 980 7806 84", _by(gb_vat, lambda compact: f"GB{compact}")),
        _union("GB"),
    ),
    "ID": (Kind("id_npwp", "NPWP", "01.300.066.6-091.000", _by(npwp)),),
    "IN": (Kind("in_gst", "GSTIN", "27AAPFU0939F1ZV", _by(gstin)),),
    "IS": (Kind("is_vat", "VSK number", "00621", _by(vsk)),),
    "JP": (
        Kind("jp_trn", "Registration number of an invoice issuer", "T8700110005901", _invoice_issuer),
        Kind("jp_cn", "Corporate number", "5-8356-7825-6246", _by(cn)),
    ),
    "KR": (Kind("kr_brn", "Business registration number", "116-82-00276", _by(brn, brn.format)),),
    "MX": (Kind("mx_rfc", "RFC", "GODE561231GR8", _by(rfc)),),
    "NO": (Kind("no_vat", "VAT number", "NO 995 525 828 MVA", _norwegian),),
    "NZ": (Kind("nz_gst", "GST number", "49-098-576", _by(ird)),),
    "RS": (Kind("rs_pib", "PIB", "101134702", _by(pib)),),
    "SA": (Kind("sa_vat", "VAT number", "300000000000003", _shaped(r"3\d{13}3")),),
    "SG": (
        Kind("sg_gst", "GST number", "M91234567X", _shaped(r"[A-Z0-9]{9,10}")),
        Kind("sg_uen", "UEN", "00192200M", _by(uen)),
    ),
    "TH": (Kind("th_vat", "VAT number", "1-2345-45678-78-1", _by(th_tin)),),
    "TR": (Kind("tr_tin", "VKN", "4540536920", _by(vkn)),),
    "TW": (Kind("tw_vat", "Unified business number", "00501503", _by(ubn)),),
    "US": (Kind("us_ein", "Employer identification number", "91-1144442", _by(ein, ein.format)),),
    "ZA": (Kind("za_vat", "VAT number", "4123456789", _shaped(r"4\d{9}")),),
}


def kinds_of(country: str) -> tuple[Kind, ...]:
    """Return the kinds of tax id that are taken in a country, the usual one first; none where there is none."""
    return _KINDS.get(country.upper(), ())


def kind(country: str, type_: str) -> Kind | None:
    """Return one kind of a country by Stripe's name of it."""
    return next((each for each in kinds_of(country) if each.type == type_), None)


def countries() -> list[str]:
    """Return the countries whose tax ids are taken."""
    return sorted(_KINDS, key=_name)


def label(type_: str, country: str) -> str:
    """Return how a tax id is called, for one of a kind that is not listed here too."""
    found = kind(country, type_)
    return found.label if found else type_.replace("_", " ").upper()


def check(country: str, type_: str, value: str) -> str:
    """Return the number as Stripe has it. Raises TaxIdRefused."""
    wanted = kind(country, type_)
    if wanted is None:
        raise TaxIdRefused(f"{_name(country)} has no such tax ID.")
    try:
        return wanted.check(value)
    except InvalidChecksum as error:
        raise TaxIdRefused("The check digits do not fit: look for a wrong or swapped digit.") from error
    except ValidationError as error:
        raise TaxIdRefused(
            f"This is no {wanted.label} ({_name(country)}). One is written like {wanted.example}"
        ) from error
