"""`flush`, as pytest-django calls it after a test that commits."""

from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections

# What migrating fills; no test changes it.
_KEPT = ("django_migrations", "django_content_type", "auth_permission")
_TABLES = """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace
    AND relname <> ALL(%s)"""


class Command(BaseCommand):
    help = "Empty the tables of the tests' database."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--noinput", action="store_false", dest="interactive")
        parser.add_argument("--database", default="default")
        for name in ("reset_sequences", "allow_cascade", "inhibit_post_migrate"):  # Django's own callers give them
            parser.add_argument(f"--{name}", action="store_true")

    def handle(self, **options: Any) -> None:
        connection = connections[options["database"]]
        quoted = connection.ops.quote_name
        with connection.cursor() as cursor:
            cursor.execute(_TABLES, [list(_KEPT)])
            names = [name for (name,) in cursor.fetchall()]
            has_rows = (f"SELECT '{name}' WHERE EXISTS (SELECT FROM {quoted(name)})" for name in names)
            cursor.execute(" UNION ALL ".join(has_rows))
            filled = [quoted(name) for (name,) in cursor.fetchall()]
            if not filled:
                return
            # Neither triggers nor foreign keys: what is insert-only goes too, in any order.
            deletions = "".join(f"DELETE FROM {table};" for table in filled)
            cursor.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {deletions} COMMIT")
            cursor.execute(f"VACUUM {', '.join(filled)}")  # else the planner would see pages of rows that are gone
