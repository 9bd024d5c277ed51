"""Answers with the security headers that the sandbox's pages share."""

from starlette.responses import HTMLResponse

_LOOPBACK = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:*"


def policy(*, framed: bool = False, leaves: bool = False) -> str:
    """Build the content security policy of a page.

    `framed` pages are shown inside a page of the application under test; pages that send the customer back to that
    application with a redirect after a form say so with `leaves`, because browsers apply `form-action` to redirects.
    """
    parents = f"'self' {_LOOPBACK}" if framed else "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "frame-src 'self'",
            f"form-action 'self' {_LOOPBACK if leaves else ''}".strip(),
            f"frame-ancestors {parents}",
            "base-uri 'none'",
        )
    )


def page(content: str, *, status: int = 200, framed: bool = False, leaves: bool = False) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": policy(framed=framed, leaves=leaves),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(content, status_code=status, headers=headers)
