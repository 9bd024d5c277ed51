"""The story told twice, once with the worker killed in the middle of every month: the table is the same."""

import os
import re
import subprocess
import sys

import pytest

from billing_portal.local.processes import CHECKOUT

ARGUMENTS = ["--exit", "--calls", "2000", "--organizations", "3", "--months", "1"]


def tell(*more: str, patience: float = 400) -> tuple[str, list[str]]:
    """Tell the story; return all it printed, and the rows of its table."""
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "BROKER_URL"}}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    result = subprocess.run(
        [sys.executable, "manage.py", "demo", *ARGUMENTS, *more],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=patience,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout, re.findall(r"^│.*│$", result.stdout, re.MULTILINE)


@pytest.mark.timeout(800)
@pytest.mark.long
def test_f13_f20_killing_the_worker_changes_nothing_in_the_table() -> None:
    _, undisturbed = tell()
    printed, disturbed = tell("--kill-worker")
    assert "The worker was killed with SIGKILL and started again." in printed
    assert len(undisturbed) == 4  # three organizations and the total
    assert disturbed == undisturbed
    assert re.search(r"^[1-9]\d* interim invoices were charged", printed, re.MULTILINE)
    assert re.search(r"Total .* 2,000 .*│ +0 │$", undisturbed[-1])
