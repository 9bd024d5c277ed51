"""Declined payments in plain words: what a bank's code means to the person who pays, and what to do about it.

Source of the codes: docs.stripe.com/declines/codes. Where Stripe asks not to tell the cardholder more than a general
decline (a stolen card, a suspicion of fraud), we do not. A code that is not in the table is told in general words.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decline:
    """What a decline means. `may_recover`: whether the same card may be charged later without its owner's doing."""

    reason: str
    todo: str
    may_recover: bool = True
    asks_owner: bool = False


_CALL_THE_BANK = "Ask your bank to allow it (the number is on the back of the card), or pay with another card."
_OTHER_CARD = "Pay with another card. This one will not be charged again by itself."
_LATER = "Nothing has to be done: the card is tried again. You can also pay now."

GENERAL = Decline("Your bank declined the payment and did not say why.", _CALL_THE_BANK)
_FINAL = Decline("Your bank declined the payment.", _OTHER_CARD, may_recover=False)
_NUMBER = Decline("The card's details are not right.", "Enter the card again, or another one.", may_recover=False)
_PIN = Decline("The card can be charged only with its PIN.", _OTHER_CARD, may_recover=False)
_KIND = Decline("The card cannot be used for this kind of payment.", _OTHER_CARD, may_recover=False)
_REVOKED = Decline(
    "You, or your bank, told that this card must not be charged by us.",
    "Pay with another card, or ask your bank to allow it again.",
    may_recover=False,
)
_ASKS = Decline(
    "Your bank wants the owner of the card to confirm the payment.",
    "Confirm it at Stripe: your bank asks you there, and the payment goes through at once.",
    may_recover=False,
    asks_owner=True,
)
_AWAY = Decline("Your bank could not be reached.", _LATER)
_LIMIT = Decline(
    "The payment is above what may be paid with this card at once, or in this time.",
    "Ask your bank to raise the limit, or pay with another card.",
)

NO_CARD = Decline("There is no card to charge.", "Save a card and pay with it.", may_recover=False)
BLOCKED = Decline(
    "The payment was stopped before it reached your bank, by a rule against fraud.",
    "Pay with another card. If that is stopped as well, write to us.",
    may_recover=False,
)
PREPAID = Decline("Prepaid cards are not accepted.", "Pay with a credit or debit card, or with Link.", False)

TABLE: dict[str, Decline] = {
    "approve_with_id": GENERAL,
    "authentication_not_handled": _ASKS,
    "authentication_required": _ASKS,
    "call_issuer": GENERAL,
    "card_declined": GENERAL,
    "card_not_supported": _KIND,
    "card_velocity_exceeded": _LIMIT,
    "currency_not_supported": Decline("The card cannot be charged in this currency.", _OTHER_CARD, may_recover=False),
    "do_not_honor": GENERAL,
    "do_not_try_again": _FINAL,
    "duplicate_transaction": Decline(
        "Your bank took the payment for a copy of one that it had just seen.",
        "Look at the card's statement first; if the other payment is not ours, pay again in a few minutes.",
    ),
    "expired_card": Decline("The card has expired.", "Enter the new card.", may_recover=False),
    "fraudulent": _FINAL,
    "generic_decline": GENERAL,
    "highest_risk_level": BLOCKED,
    "incorrect_address": _NUMBER,
    "incorrect_cvc": Decline("The card's security code is not right.", "Enter the card again.", may_recover=False),
    "incorrect_number": _NUMBER,
    "incorrect_pin": _PIN,
    "incorrect_zip": Decline("The postal code is not the card's.", "Enter the card again.", may_recover=False),
    "insufficient_funds": Decline(
        "There was not enough money on the card.",
        "Put money on the account behind it before the next attempt, or pay with another card.",
    ),
    "invalid_account": Decline("The account behind the card does not exist any more.", _OTHER_CARD, may_recover=False),
    "invalid_amount": _LIMIT,
    "invalid_cvc": _NUMBER,
    "invalid_expiry_month": _NUMBER,
    "invalid_expiry_year": _NUMBER,
    "invalid_number": _NUMBER,
    "invalid_pin": _PIN,
    "invoice_payment_intent_requires_action": _ASKS,
    "issuer_not_available": _AWAY,
    "lost_card": _FINAL,
    "merchant_blacklist": _FINAL,
    "mobile_device_authentication_required": _ASKS,
    "new_account_information_available": Decline(
        "Your bank has replaced the card or its number.", "Enter the new card.", may_recover=False
    ),
    "no_action_taken": GENERAL,
    "not_permitted": _KIND,
    "offline_pin_required": _PIN,
    "online_or_offline_pin_required": _PIN,
    "pickup_card": _FINAL,
    "pin_try_exceeded": _PIN,
    "previously_declined_do_not_retry": _FINAL,
    "processing_error": _AWAY,
    "reenter_transaction": _AWAY,
    "restricted_card": _FINAL,
    "revocation_of_all_authorizations": _REVOKED,
    "revocation_of_authorization": _REVOKED,
    "security_violation": GENERAL,
    "service_not_allowed": _KIND,
    "stolen_card": _FINAL,
    "stop_payment_order": _REVOKED,
    "testmode_decline": Decline("It is a test card, and this is no test.", _OTHER_CARD, may_recover=False),
    "transaction_not_allowed": _KIND,
    "try_again_later": _AWAY,
    "withdrawal_count_limit_exceeded": _LIMIT,
}


def of(*, code: str = "", decline_code: str = "", outcome: str = "") -> Decline:
    """Return what a refusal means, by the first of Stripe's codes that the table knows; general words for any other.

    `outcome` is the type of a charge's outcome: what Radar blocked, the bank never saw.
    """
    if outcome == "blocked":
        return BLOCKED
    return TABLE.get(decline_code) or TABLE.get(code) or GENERAL
