"""How pages are looked at: wide and narrow, light and dark. Two of the four in `make test`, all in `make test-long`."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

of_page = pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1360, "light"),
        (400, "dark"),
        pytest.param(1360, "dark", marks=pytest.mark.long),
        pytest.param(400, "light", marks=pytest.mark.long),
    ],
)


def assert_accessible(page: Page, **options: Any) -> None:
    """Let axe look at the page, with its `options`; what is in order it need not write down, which halves its time."""
    found = Axe().run(page, options={"resultTypes": ["violations"], **options})
    assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
