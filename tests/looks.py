"""How pages are looked at: wide and narrow, light and dark. Two of the four in `make test`, all in `make test-long`."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.test import Client
from playwright.sync_api import Browser, Page

from accounts.models import User

of_page = pytest.mark.parametrize(
    ("width", "theme"),
    [
        (1360, "light"),
        (400, "dark"),
        pytest.param(1360, "dark", marks=pytest.mark.long),
        pytest.param(400, "light", marks=pytest.mark.long),
    ],
)


def opened(chromium: Browser, url: str, user: User, *, width: int = 1360, theme: str = "light") -> Page:
    """Open a page as `user`; `complaints` of the page are all that the console says of it."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    home = "/".join(url.split("/")[:3])
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": home}])
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: message.type in {"error", "warning"} and page.complaints.append(message.text))
    page.goto(url)
    return page


def assert_accessible(page: Page, **options: Any) -> None:
    """Let axe look at the page, with its `options`; what is in order it need not write down, which halves its time."""
    found = Axe().run(page, options={"resultTypes": ["violations"], **options})
    assert found.violations_count == 0, f"{page.url}\n{found.generate_report()}"
