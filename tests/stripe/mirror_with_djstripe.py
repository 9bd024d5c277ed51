"""A program: mirror everything a sandbox holds with dj-stripe as it is published, and print what went wrong.

It runs apart from the portal, on a database in memory, because the portal keeps dj-stripe from calling Stripe.
"""

import json
import sys
import traceback
import warnings
from typing import Any

import django
import stripe
from django.conf import settings
from django.core.management import call_command

KEY = "sk_test_" + "contract" * 4  # as long as dj-stripe wants a key to be


def configure(url: str) -> None:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "djstripe"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        MIGRATION_MODULES={"djstripe": None, "auth": None, "contenttypes": None},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        STRIPE_TEST_SECRET_KEY=KEY,
        STRIPE_LIVE_MODE=False,
        DJSTRIPE_FOREIGN_KEY_TO_FIELD="id",
        USE_TZ=True,
        SECRET_KEY="of no use",
        LOGGING_CONFIG=None,
    )
    django.setup()
    stripe.api_base = url
    stripe.api_key = KEY
    stripe.max_network_retries = 0
    call_command("migrate", run_syncdb=True, verbosity=0)


def models_by_object() -> dict[str, Any]:
    from djstripe import models

    names = [
        "Account", "BalanceTransaction", "Charge", "Coupon", "Customer", "Dispute", "Invoice", "InvoiceItem", "Mandate",
        "PaymentIntent", "PaymentMethod", "Price", "Product", "PromotionCode", "Refund", "Session", "SetupIntent",
        "Subscription", "SubscriptionItem", "TaxId", "TaxRate",
    ]  # fmt: skip
    found = [getattr(models, name) for name in names]
    return {model.stripe_class.OBJECT_NAME: model for model in found}


def mirror(dump: dict[str, Any]) -> dict[str, Any]:
    """Mirror each object as dj-stripe would after an event, with the fields it wants expanded."""
    mirrored: dict[str, int] = {}
    failures = []
    for kind, model in models_by_object().items():
        for shown in dump["objects"].get(kind, ()):
            if shown.get("deleted"):
                continue
            try:
                data = fetch(model, shown)
                stored = model.sync_from_stripe_data(data)
                assert stored.id == shown["id"]
                mirrored[kind] = mirrored.get(kind, 0) + 1
            except Exception:
                failures.append(f"{kind} {shown['id']}: {traceback.format_exc(limit=-2)}")
    return {"mirrored": mirrored, "failures": failures}


def fetch(model: Any, shown: dict[str, Any]) -> Any:
    if model.stripe_class.OBJECT_NAME == "tax_id":
        return stripe.Customer.retrieve_tax_id(shown["customer"], shown["id"])
    return model.stripe_class.retrieve(shown["id"], expand=model.expand_fields)


def handle(dump: dict[str, Any]) -> dict[str, Any]:
    """Run dj-stripe's own webhook handlers over every event it knows."""
    from djstripe.models import Event
    from djstripe.signals import WEBHOOK_SIGNALS

    handled, unknown, failures = 0, set(), []
    for event in dump["events"]:
        if event["type"] not in WEBHOOK_SIGNALS:
            unknown.add(event["type"])
            continue
        try:
            Event.process(stripe.Event.construct_from(event, KEY))
            handled += 1
        except Exception:
            failures.append(f"{event['type']} {event['id']}: {traceback.format_exc(limit=-2)}")
    return {"handled": handled, "unknown": sorted(unknown), "failures": failures}


def main() -> None:
    warnings.simplefilter("ignore")
    url = sys.argv[1]
    configure(url)
    dump = json.load(sys.stdin)
    mirrored, handled = mirror(dump), handle(dump)
    json.dump({"mirror": mirrored, "events": handled}, sys.stdout)


if __name__ == "__main__":
    main()
