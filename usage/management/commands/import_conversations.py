"""Record the conversations of a file that Intercom's API gave, and go on where an import of it was cut short."""

from usage.management.commands import import_calls
from usage.models import ImportJob


class Command(import_calls.Command):
    kind = ImportJob.Kind.INTERCOM
    noun, one = "conversations", "conversation"
    help = (
        "Record the conversations of a file in the shape of Intercom's API: JSON (an array, one object or JSON lines), "
        "also .gz or .xz. Without --organization each belongs to its company, by the id that you gave it there. "
        "An import that was cut short goes on where it was; what is recorded already is a duplicate."
    )
