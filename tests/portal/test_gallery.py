"""All components in a real browser, under the portal's own content security policy."""

import os
from collections.abc import Iterator

import pytest

from tests import looks
from tests.local_servers import CHROMIUM_FLAGS, PATIENCE_MS

SIZES = {"desk": (1360, 900), "phone": (400, 860)}

pytestmark = [pytest.mark.browser, pytest.mark.urls("tests.portal.gallery")]


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright keeps a loop running in this thread.
        yield browser
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        browser.close()


@pytest.fixture
def address(settings, tmp_path, request):
    """Serve with an empty STATIC_ROOT: the files come straight from `static/`."""
    settings.STATIC_ROOT = tmp_path
    return request.getfixturevalue("live_server").url


@pytest.fixture
def open_gallery(browser, address):
    """Open the gallery; at the end of the test nothing may have been complained of in the console."""
    opened = []

    def open_it(*, theme="light", size="desk", scripts=True):
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=scripts
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        response = page.goto(f"{address}/gallery/")
        assert "style-src 'self'" in response.headers["content-security-policy"]
        opened.append((context, complaints))
        return page

    yield open_it
    for context, complaints in opened:
        context.close()
        assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_inaccessible_and_nothing_scrolls_sideways(open_gallery, theme, size):

    page = open_gallery(theme=theme, size=size)
    page.locator(".chart-details summary").click()
    looks.assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]


def test_the_stored_theme_is_applied_before_the_first_paint(open_gallery):
    page = open_gallery()
    page.locator(".sidebar .user-menu summary").click()
    page.locator(".sidebar [data-set-theme=dark]").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_arrow_keys_walk_the_columns_and_the_tooltip_tells_each(open_gallery):
    page = open_gallery()
    page.locator(".chart-column").last.focus()
    page.keyboard.press("ArrowLeft")
    tip = page.locator(".chart-tip")
    assert "Nov 20, 2026" in tip.inner_text()
    assert "Voice engine" in tip.inner_text()
    assert page.locator(".chart-column[tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_a_dialog_is_modal_with_scripts_and_opens_without_them(open_gallery):
    page = open_gallery()
    page.get_by_role("button", name="Remove the card").click()
    assert page.evaluate("document.querySelector('dialog').matches(':modal')")
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()

    plain = open_gallery(scripts=False)
    plain.get_by_role("button", name="Remove the card").click()
    plain.locator("dialog").wait_for()


def test_the_menu_of_a_phone_opens_without_scripts(open_gallery):
    page = open_gallery(size="phone", scripts=False)
    assert page.locator(".topbar-menu").is_hidden()
    page.locator(".topbar-row").click()
    page.locator(".topbar-menu").get_by_role("link", name="Invoices").wait_for()
