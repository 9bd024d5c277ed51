"""Stripe's documented test cards: what each number is, and how it behaves.

Source: docs.stripe.com/testing. A ``pm_card_…`` or ``tok_…`` name stands for a number.
"""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A test card. ``decline`` is the outcome of every charge; ``refuses_to_attach`` also of saving it."""

    number: str
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    decline: str | None = None
    attaches: bool = True
    authentication: str | None = None  # "setup", "always", "one_time" or "declined"
    risk: str = "normal"
    blocked: bool = False
    dispute: str | None = None
    refund: str | None = None
    warning: str | None = None  # why its issuer reports every charge as fraud
    cvc_check: str = "pass"
    postal_code_check: str = "pass"

    @property
    def last4(self) -> str:
        return self.number[-4:]

    @property
    def fingerprint(self) -> str:
        """The same for the same number, whoever saves it, as Stripe's is within one account."""
        return hashlib.sha256(f"fingerprint:{self.number}".encode()).hexdigest()[:16]


def _declined(number: str, code: str, **details: object) -> Card:
    return Card(number, decline=code, attaches=False, **details)  # type: ignore[arg-type]


PLAIN = [
    Card("4242424242424242"),
    Card("4000056655665556", funding="debit"),
    Card("5555555555554444", "mastercard"),
    Card("2223003122003222", "mastercard"),
    Card("5200828282828210", "mastercard", "debit"),
    Card("5105105105105100", "mastercard", "prepaid"),
    Card("378282246310005", "amex"),
    Card("371449635398431", "amex"),
    Card("6011111111111117", "discover"),
    Card("6011000990139424", "discover"),
    Card("6011981111111113", "discover", "debit"),
    Card("3056930009020004", "diners"),
    Card("36227206271667", "diners"),
    Card("3566002020360505", "jcb", country="JP"),
    Card("6200000000000005", "unionpay", country="CN"),
    Card("6200000000000047", "unionpay", "debit", country="CN"),
    Card("4000000000000077"),
    Card("4000003720000278", country="IE"),
]

COUNTRIES = {
    "BR": "4000000760000002", "CA": "4000001240000000", "MX": "4000004840008001", "AT": "4000000400000008",
    "BE": "4000000560000004", "CZ": "4000002030000002", "DK": "4000002080000001", "FI": "4000002460000001",
    "FR": "4000002500000003", "DE": "4000002760000016", "IE": "4000003720000005", "IT": "4000003800000008",
    "NL": "4000005280000002", "NO": "4000005780000007", "PL": "4000006160000005", "PT": "4000006200000007",
    "ES": "4000007240000007", "SE": "4000007520000008", "CH": "4000007560000009", "GB": "4000008260000000",
    "AU": "4000000360000006", "CN": "4000001560000002", "HK": "4000003440000004", "IN": "4000003560000008",
    "JP": "4000003920000003", "MY": "4000004580000002", "NZ": "4000005540000008", "SG": "4000007020000003",
    "TH": "4000007640000003",
}  # fmt: skip

BEHAVING = [
    _declined("4000000000000002", "generic_decline"),
    _declined("4000000000009995", "insufficient_funds"),
    _declined("4000000000009987", "lost_card"),
    _declined("4000000000009979", "stolen_card"),
    _declined("4000000000000069", "expired_card"),
    _declined("4000000000000127", "incorrect_cvc", cvc_check="fail"),
    _declined("4000000000000119", "processing_error"),
    _declined("4000000000006975", "card_velocity_exceeded"),
    Card("4000000000000341", decline="generic_decline"),
    Card("4100000000000019", risk="highest", blocked=True),
    Card("4000000000004954", risk="highest"),
    Card("4000000000009235", risk="elevated"),
    Card("4000000000000101", cvc_check="fail"),
    Card("4000000000000036", postal_code_check="fail"),
    Card("4000000000000259", dispute="fraudulent"),
    Card("4000000000002685", dispute="product_not_received"),
    Card("4000000000001976", dispute="inquiry"),
    Card("4000000000005423", warning="unauthorized_use_of_card"),
    Card("4000000000007726", refund="pending"),
    Card("4000000000005126", refund="failed"),
    Card("4000002500003155", country="FR", authentication="setup"),
    Card("4000002760003184", country="DE", authentication="always"),
    Card("4000003800000446", country="IT", authentication="one_time"),
    Card("4000008260003178", country="GB", authentication="one_time", decline="insufficient_funds"),
    Card("4000000000003220", authentication="setup"),
    Card("4000000000003063", authentication="setup"),
    Card("4000008400001629", authentication="declined", decline="generic_decline"),
    Card("4000000000003055"),
]

CARDS = {card.number: card for card in [*PLAIN, *BEHAVING]} | {
    number: Card(number, country=country) for country, number in COUNTRIES.items()
}

NAMES = {
    "visa": "4242424242424242", "visa_debit": "4000056655665556", "mastercard": "5555555555554444",
    "mastercard_debit": "5200828282828210", "mastercard_prepaid": "5105105105105100", "amex": "378282246310005",
    "discover": "6011111111111117", "diners": "36227206271667", "jcb": "3566002020360505",
    "unionpay": "6200000000000005", "bypassPending": "4000000000000077",
    "us": "4242424242424242", "chargeDeclined": "4000000000000002",
    "visa_chargeDeclined": "4000000000000002",
    "chargeDeclinedInsufficientFunds": "4000000000009995",
    "visa_chargeDeclinedInsufficientFunds": "4000000000009995",
    "visa_chargeDeclinedLostCard": "4000000000009987", "visa_chargeDeclinedStolenCard": "4000000000009979",
    "chargeDeclinedLostCard": "4000000000009987", "chargeDeclinedStolenCard": "4000000000009979",
    "chargeDeclinedExpiredCard": "4000000000000069", "chargeDeclinedIncorrectCvc": "4000000000000127",
    "chargeDeclinedProcessingError": "4000000000000119",
    "visa_chargeDeclinedVelocityLimitExceeded": "4000000000006975",
    "chargeDeclinedFraudulent": "4100000000000019", "radarBlock": "4100000000000019",
    "chargeCustomerFail": "4000000000000341", "riskLevelHighest": "4000000000004954",
    "riskLevelElevated": "4000000000009235", "cvcCheckFail": "4000000000000101",
    "avsZipFail": "4000000000000036", "createDispute": "4000000000000259",
    "createDisputeProductNotReceived": "4000000000002685", "createDisputeInquiry": "4000000000001976",
    "createIssuerFraudRecord": "4000000000005423",
    "pendingRefund": "4000000000007726", "refundFail": "4000000000005126",
    "authenticationRequired": "4000002760003184", "authenticationRequiredOnSetup": "4000002500003155",
    "authenticationRequiredSetupForOffSession": "4000003800000446",
    "authenticationRequiredChargeDeclinedInsufficientFunds": "4000008260003178",
    "threeDSecure2Required": "4000000000003220", "threeDSecureRequired": "4000000000003063",
    "threeDSecureOptional": "4000000000003055", "threeDSecureRequiredChargeDeclined": "4000008400001629",
} | {country.lower(): number for country, number in COUNTRIES.items()}  # fmt: skip


def by_name(name: str) -> Card | None:
    """The card behind ``pm_card_visa``, ``tok_visa`` and their like."""
    for prefix in ("pm_card_", "tok_"):
        if name.startswith(prefix):
            number = NAMES.get(name.removeprefix(prefix))
            return CARDS[number] if number else None
    return None


def by_number(number: str) -> Card | None:
    """The card with a number; a well-formed number that is no test card has no card behind it."""
    return CARDS.get(number)


def is_luhn(number: str) -> bool:
    digits = [int(d) for d in reversed(number)]
    doubled = (sum(divmod(2 * d, 10)) for d in digits[1::2])
    return 12 < len(digits) < 20 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


MESSAGES = {
    "generic_decline": "Your card was declined.",
    "insufficient_funds": "Your card has insufficient funds.",
    "lost_card": "Your card was declined.",
    "stolen_card": "Your card was declined.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
    "card_velocity_exceeded": "Your card was declined for making repeated attempts too frequently or exceeding its"
    " amount limit.",
    "do_not_honor": "Your card was declined.",
    "fraudulent": "Your card was declined.",
    "authentication_required": "Your card was declined. This transaction requires authentication.",
}
OWN_CODES = {"expired_card", "incorrect_cvc", "processing_error", "authentication_required"}
HARD_DECLINES = {
    "lost_card", "stolen_card", "fraudulent", "incorrect_number", "pickup_card", "revocation_of_authorization",
    "highest_risk_level", "transaction_not_allowed", "authentication_required", "invalid_account",
}  # fmt: skip


def error_code(decline_code: str) -> str:
    """The error's ``code``: a few reasons have one of their own, all others are ``card_declined``."""
    return decline_code if decline_code in OWN_CODES else "card_declined"
