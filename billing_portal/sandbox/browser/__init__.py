"""What a customer or a developer sees of the sandbox in a browser.

Stripe's own pages cannot run without Stripe, so the sandbox serves its own: `stripe.js` with its card frame, the
3-D Secure challenge, hosted invoices, Checkout, the customer portal, and the inspector under `/_sandbox/`. The
engine mounts `routes` and offers itself as `request.app.state.sandbox`; nothing here keeps state of its own.
"""

from billing_portal.sandbox.browser import assets, challenge, checkout, elements, inspector, invoices, portal, receipts

routes = [
    *assets.routes,
    *elements.routes,
    *challenge.routes,
    *invoices.routes,
    *receipts.routes,
    *portal.routes,
    *checkout.routes,
    *inspector.routes,
]
