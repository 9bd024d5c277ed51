"""`manage.py log_ins`: the demo's address and its two log-ins."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.table import Table

from accounts import mfa
from accounts.models import Membership, Organization
from billing_portal.local import company, story


class Command(BaseCommand):
    help = "Print the demo's address, its log-ins and the staff's one-time code of this moment."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--address", default="http://127.0.0.1:8000")

    def handle(self, *args: Any, **options: Any) -> None:
        address = options["address"]
        largest = Organization.objects.order_by("id").first()
        owner = Membership.objects.get(organization=largest, role=Membership.Role.OWNER).user
        table = Table(title="The demo is running", show_header=False, title_justify="left")
        table.add_row("Customer", f"{address}/", owner.email, story.PASSWORD)
        table.add_row("Staff", f"{address}/staff/", company.STAFF_EMAIL, story.PASSWORD)
        console = Console(width=max(100, Console().width))
        console.print(table)
        code = mfa.current_code(company.STAFF_TOTP_SECRET)
        console.print(f"Staff need a second factor: the code now is {code}; secret {company.STAFF_TOTP_SECRET}")
        console.print("A new code later: manage.py log_ins. Mail goes to the folder `mail` of the demo's files.")
        console.print("Ctrl-C stops everything; the next start goes on where this one ended.")
