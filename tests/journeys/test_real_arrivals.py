"""The story on real arrival counts: a bank's calls of April 2003, where the file is at hand."""

import os
from pathlib import Path

import pytest

from billing_portal.local.processes import CHECKOUT
from tests.journeys.test_killed_worker import tell

ARRIVALS = Path(os.environ.get("ARRIVALS_FILE") or CHECKOUT.parent / "shared" / "data" / "bank_calls.csv.xz")


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not ARRIVALS.exists(), reason="the file of real arrivals is not here: set ARRIVALS_FILE")
def test_i18_a_month_of_real_arrivals_ends_paid_and_without_difference() -> None:
    printed, table = tell("--organizations", "30", "--arrivals", str(ARRIVALS), "--month", "2003-04", patience=2300)
    assert "628,414" in table[-1]
    assert table[-1].rstrip(" │").endswith(" 0")
    assert "Peak memory" in printed
