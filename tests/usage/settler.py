"""A process of its own beside a portal that is being killed: makes its world, then settles what waits, for ever.

python -m tests.usage.settler set-up FILE    writes the secret of a vendor's key
python -m tests.usage.settler run
python -m tests.usage.settler finish         settles the rest, and names what does not add up
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import django

django.setup()

from django.db import InterfaceError, OperationalError, connection  # noqa: E402

from accounts import api_keys  # noqa: E402
from accounts.models import ApiKey, Organization  # noqa: E402
from billing_portal.ledger import accounts, settlement, verification  # noqa: E402
from tests.billing import world  # noqa: E402
from usage import partitions, rollup_upkeep  # noqa: E402

ORGANIZATIONS = ("acme", "other")


def set_up(file: Path) -> None:
    now = datetime.now(UTC)
    world.load_prices()
    partitions.ensure([datetime(2025, 10, 1, tzinfo=UTC).date()])
    for reference in ORGANIZATIONS:
        organization = Organization.objects.create(
            reference=reference, name=reference, currency="USD", time_zone="UTC", created_at=now
        )
        accounts.open(organization=organization, now=now)
    _, secret = api_keys.issue(organization=None, name="k", scopes=[str(ApiKey.Scope.CALLS_WRITE)], now=now)
    unfinished = file.with_suffix(".new")
    unfinished.write_text(secret)
    unfinished.rename(file)


def run() -> None:
    ids = list(Organization.objects.order_by("id").values_list("pk", flat=True))
    while True:
        try:
            settled = sum(settlement.settle(pk, now=datetime.now(UTC), limit=500) for pk in ids)
        except (OperationalError, InterfaceError):
            connection.close()
            settled = 0
        if not settled:
            time.sleep(0.1)


def finish() -> None:
    for organization in Organization.objects.order_by("id"):
        settlement.settle_all(organization.pk, now=datetime.now(UTC))
        for each in (*verification.verify(organization.pk), *rollup_upkeep.verify(organization.pk)):
            sys.stdout.write(f"{organization.reference} {each}\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["set-up", name]:
            set_up(Path(name))
        case ["run"]:
            run()
        case ["finish"]:
            finish()
