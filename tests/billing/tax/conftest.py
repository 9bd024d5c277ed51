"""Tax is the subject here, so Stripe works it out."""

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _automatic_tax(settings: Any) -> None:
    settings.AUTOMATIC_TAX = True
