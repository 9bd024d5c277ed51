"""The guide for integrators: each of its examples is run as it stands, against a portal that listens."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accounts import api_keys
from billing_portal.ledger import accounts
from tests.usage.conftest import READ, WRITE
from usage import retell, tasks
from usage.models import Call

pytestmark = pytest.mark.django_db(transaction=True)
GUIDE = Path("usage/api/README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```\n```json\n(.*?)```", GUIDE, re.DOTALL)
TOOLS = ("bash", "curl", "gzip", "openssl")


def test_every_example_has_its_answer():
    assert len(BLOCKS) == GUIDE.count("```sh\n") == GUIDE.count("```json\n") > 8


@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)}")
def test_every_example_is_answered_as_the_guide_says(priced, acme, now, live_server, settings, tmp_path):
    settings.IMPORTS_DIR = tmp_path / "imports"
    settings.RETELL_WEBHOOK_KEYS = ["key_of_the_guide"]
    accounts.open(organization=acme, now=now)
    _, secret = api_keys.issue(organization=None, name="guide", scopes=[WRITE, READ], now=now)
    environment = {
        "PATH": os.environ["PATH"],
        "PORTAL": live_server.url,
        "VENDOR_KEY": secret,
        "RETELL_API_KEY": "key_of_the_guide",
    }
    for script, expected in BLOCKS:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, script + done.stderr
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        assert_holds(json.loads(expected), answer, script)
    retell.record_due(now=now)
    tasks.continue_imports()
    ids = {f"call_{number}" for number in (1, 3, 4, 5, 7, 8, 9, 10, 11)}
    assert set(Call.objects.values_list("call_id", flat=True)) == ids


def assert_holds(expected, answer, script):
    """Check that the answer has all that the guide shows of it; it may have more."""
    if isinstance(expected, dict):
        for name, value in expected.items():
            assert name in answer, (script, answer)
            assert_holds(value, answer[name], script)
    elif isinstance(expected, list):
        assert len(answer) >= len(expected), (script, answer)
        for value, given in zip(expected, answer, strict=False):
            assert_holds(value, given, script)
    else:
        assert answer == expected, (script, answer)
