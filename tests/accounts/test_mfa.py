"""Second factors without a browser."""

import base64

import time_machine
from allauth.mfa.models import Authenticator

from accounts import mfa
from accounts.models import User


def test_the_code_is_that_of_rfc_6238() -> None:
    # Appendix B: the secret "12345678901234567890" in ASCII, SHA-1; eight digits there, six here.
    secret = base64.b32encode(b"12345678901234567890").decode()
    for instant, code in [(59, "287082"), (1111111109, "081804"), (2000000000, "279037")]:
        with time_machine.travel(instant, tick=False):
            assert mfa.current_code(secret) == code


def test_a_fresh_secret_has_160_bits() -> None:
    assert len(base64.b32decode(mfa.new_secret())) == 20
    assert mfa.new_secret() != mfa.new_secret()


def test_enrolling_makes_the_codes_valid(alice: User) -> None:
    assert not mfa.is_enrolled(alice)
    secret = mfa.new_secret()
    mfa.enroll_totp(alice, secret)
    mfa.enroll_totp(alice, secret)
    assert mfa.is_enrolled(alice)
    assert Authenticator.objects.get(user=alice).wrap().validate_code(mfa.current_code(secret))
