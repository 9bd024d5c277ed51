"""Photographs of every page of the running demo: wide and narrow, light and dark.

Goes only by what a browser sees: it logs in, follows links and needs no database, which is another one than the demo's.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from accounts import mfa
from billing_portal.local import company, story
from usage import samples

try:
    from playwright.sync_api import Error, sync_playwright
except ImportError:  # only installed for development
    sync_playwright = None  # type: ignore[assignment]

WIDTHS = (1360, 400)
THEMES = ("light", "dark")
_HEIGHT = 900
_UUID = "[0-9a-f-]{36}"
# A link to a page that is found by following one, and the pattern of its address.
_CALL = r"/usage/calls/[^/]+/$"
_TRACE = r"/usage/trace/\?id=[^/]+$"
_INVOICE = rf"/invoices/{_UUID}/$"
_AMOUNT_DUE = rf"/invoices/{_UUID}/amount-due/$"
_PURCHASE = rf"/credits/purchases/{_UUID}/$"
_ORGANIZATION = rf"/staff/organizations/{_UUID}/$"
_INVOICE_LINE = rf"/invoices/{_UUID}/(?!receipt|payment|amount)[a-z_]+/$"
_DISPUTE_NEW = r"/disputes/new/\?kind=.+$"
_CHANGE = r"/usage/changes/[a-z_]+/(\?.*)?$"
_CONVERSATION = r"/usage/conversations/[^/?]+/$"
_BUCKET_OFFER = rf"/buckets/offers/{_UUID}/$"


class CannotPhotograph(Exception):
    """Something that the photographs need is not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A page by its name and address, and who sees it: the state of a logged-in browser, or None for a stranger."""

    name: str
    url: str
    state: Any


def take(address: str, out: Path, *, taken: Callable[[str], None]) -> int:
    """Photograph every page into `out`, telling `taken` each file's name; return how many there are.

    Raises CannotPhotograph.
    """
    if sync_playwright is None:
        raise CannotPhotograph("Playwright is not installed. Install the development tools: make install.")
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
            shots = [*_strangers(address), *_customers(browser, address), *_topped_up(browser, address)]
            shots += _staff(browser, address)
            for width in WIDTHS:
                for theme in THEMES:
                    for name in _photograph(browser, shots, out, width=width, theme=theme):
                        taken(name)
                        count += 1
            browser.close()
    except Error as failure:
        raise CannotPhotograph(
            f"Chromium says: {str(failure).splitlines()[0]} Is the demo running (make demo)?"
        ) from failure
    return count


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise CannotPhotograph("Chromium is not installed. Install it (Debian: apt-get install chromium) and try again.")


def _photograph(browser: Any, shots: list[Shot], out: Path, *, width: int, theme: str) -> Iterator[str]:
    """Photograph all pages at one width in one theme, each person's in one browser; yield the files' names."""
    for state, shown in groupby(shots, key=lambda shot: shot.state):
        context = browser.new_context(
            viewport={"width": width, "height": _HEIGHT},
            color_scheme=theme,
            reduced_motion="reduce",
            storage_state=state,
        )
        page = context.new_page()
        for shot in shown:
            answer = page.goto(shot.url, wait_until="networkidle")
            if answer is None or answer.status >= 400:
                raise CannotPhotograph(f"{shot.url} answers {answer.status if answer else 'nothing'}.")
            name = f"{shot.name}-{width}-{theme}.png"
            page.screenshot(path=out / name, full_page=True)
            yield name
        context.close()


def _strangers(address: str) -> Iterator[Shot]:
    yield Shot("log-in", f"{address}/accounts/login/", None)
    yield Shot("sign-up", f"{address}/accounts/signup/", None)


def _customers(browser: Any, address: str) -> Iterator[Shot]:
    """Yield the pages of the demo's largest customer."""
    page = _logged_in(browser, address, f"owner@{samples.organizations(count=1)[0].reference}.example")
    state, home = page.context.storage_state(), page.url
    pages = {
        "overview": home,
        "usage": f"{home}usage/",
        "usage-by-agent": f"{home}usage/?by=agent&days=last-month",
        "calls": f"{home}usage/calls/",
        "call": (call := _link(page, f"{home}usage/calls/", _CALL)),
        "outcomes": f"{home}usage/outcomes/?days=last-month",
        "conversations": f"{home}usage/conversations/?days=last-month",
        "conversation": _link(page, f"{home}usage/conversations/?days=last-month", _CONVERSATION),
        "outcome-rules": f"{home}outcome-rules/",
        "changes": f"{home}usage/changes/",
        "change": _link(page, f"{home}usage/changes/", _CHANGE),
        "what-if": f"{home}usage/what-if/",
        "own-log": f"{home}usage/own-log/",
        "saved-views": f"{home}usage/views/",
        "metadata": f"{home}usage/metadata/",
        "exports": f"{home}exports/",
        "completeness": f"{home}usage/trace/",
        "trace": _link(page, call, _TRACE),
        "invoices": f"{home}invoices/",
        "invoice": (invoice := _month_invoice(page, f"{home}invoices/")),
        "invoice-line": (line := _link(page, invoice, _INVOICE_LINE)),
        "dispute-new": _link(page, line, _DISPUTE_NEW),
        "invoice-payment": f"{invoice}payment/",
        "amount-due": f"{invoice}amount-due/",
        "receipt": f"{invoice}receipt/",
        "receipt-keys": f"{address}/receipts/keys/",
        "disputes": f"{home}disputes/",
        "credits": f"{home}credits/",
        "buy-credit": f"{home}credits/buy/",
        "purchases": f"{home}credits/purchases/",
        "purchase": _link(page, f"{home}credits/purchases/", _PURCHASE),
        "buckets": f"{home}buckets/",
        "bucket-offers": f"{home}buckets/offers/",
        "bucket-offer": _link(page, f"{home}buckets/offers/", _BUCKET_OFFER),
        "bucket-planner": f"{home}buckets/planner/",
        "seats": f"{home}seats/",
        "limits": f"{home}limits/",
        "payment-methods": f"{home}payment-methods/",
        "add-card": f"{home}payment-methods/add/",
        "developers": f"{home}developers/",
        "new-key": f"{home}developers/keys/new/",
        "settings": f"{home}settings/",
        "billing-details": f"{home}billing-details/",
        "billing-details-first": f"{home}billing-details/first/",
        "new-organization": f"{address}/organizations/new/",
    }
    page.context.close()
    for name, url in pages.items():
        yield Shot(name, url, state)


def _topped_up(browser: Any, address: str) -> Iterator[Shot]:
    """Yield what the customer with a standing order sees of it."""
    page = _logged_in(browser, address, f"owner@{samples.organizations(count=2)[1].reference}.example")
    state, home = page.context.storage_state(), page.url
    page.context.close()
    yield Shot("top-up", f"{home}credits/top-up/", state)
    yield Shot("top-up-purchases", f"{home}credits/purchases/", state)


def _staff(browser: Any, address: str) -> Iterator[Shot]:
    page = _logged_in(browser, address, company.STAFF_EMAIL, totp_secret=company.STAFF_TOTP_SECRET)
    state = page.context.storage_state()
    find = f"{address}/staff/find/?q={samples.organizations(count=1)[0].reference}"
    organization = _link(page, find, _ORGANIZATION)
    page.context.close()
    yield Shot("staff", f"{address}/staff/", state)
    yield Shot("staff-find", find, state)
    yield Shot("staff-organization", organization, state)
    yield Shot("staff-goodwill", f"{organization}goodwill/", state)
    yield Shot("staff-approvals", f"{address}/staff/approvals/", state)
    yield Shot("staff-taxes", f"{address}/staff/taxes/", state)
    yield Shot("staff-calls", f"{address}/staff/usage/call/", state)
    for name in ("results", "disputes", "outcome-rules", "backfills", "trace"):
        yield Shot(f"staff-{name}", f"{address}/staff/{name}/", state)
    yield Shot("staff-propose-rules", f"{address}/staff/outcome-rules/new/parley-usd/", state)
    yield Shot("staff-attach-seats", f"{organization}attach_seats/", state)
    yield Shot("staff-payment-failures", f"{address}/staff/billing/paymentattempt/", state)


def _logged_in(browser: Any, address: str, email: str, *, totp_secret: str = "") -> Any:
    """Return a page of a new browser context in which this person is logged in."""
    page = browser.new_context().new_page()
    page.goto(f"{address}/accounts/login/")
    page.fill("[name=login]", email)
    page.fill("[name=password]", story.PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_load_state("networkidle")
    if totp_secret:
        page.fill("[name=code]", mfa.current_code(totp_secret))
        page.press("[name=code]", "Enter")
        page.wait_for_load_state("networkidle")
    if "/accounts/login" in page.url:
        raise CannotPhotograph(f"{email} cannot log in at {address}: is this the demo (make demo)?")
    return page


def _month_invoice(page: Any, url: str) -> str:
    """Return the first listed invoice of a month: it says what its amount due is for, an interim one does not."""
    for invoice in _links(page, url, _INVOICE):
        if _links(page, invoice, _AMOUNT_DUE):
            return invoice
    raise CannotPhotograph(f"{url} lists no invoice of a month: is the demo's story told to its end?")


def _links(page: Any, url: str, pattern: str) -> list[str]:
    """Return the links on a page whose address ends as the pattern says."""
    page.goto(url, wait_until="networkidle")
    hrefs = page.locator("a").evaluate_all("links => links.map(link => link.href)")
    return [str(href) for href in hrefs if re.search(pattern, href)]


def _link(page: Any, url: str, pattern: str) -> str:
    """Return the first link on a page whose address ends as the pattern says."""
    for href in _links(page, url, pattern):
        return href
    raise CannotPhotograph(f"{url} has no link to follow ({pattern}): is the demo's story told to its end?")
