"""Constraints of what belongs to an organization."""

from typing import Any

import pgtrigger
from django.db.models.constraints import BaseConstraint


class SameOrganization(BaseConstraint):
    """Hold that a row refers to a row of its own organization (I16): a foreign key over organization and `field`.

    The field itself is declared with `db_constraint=False`, as this is its constraint; what it points to needs a
    `UniqueConstraint` over organization and id. So no key is without the organization, by which the schema can be cut.
    """

    def __init__(self, *, field: str, name: str) -> None:
        super().__init__(name=name)
        self.field = field

    def constraint_sql(self, model: Any, schema_editor: Any) -> str:
        reference = model._meta.get_field(self.field)
        quote = schema_editor.quote_name
        return (
            f"CONSTRAINT {quote(self.name)} FOREIGN KEY ({quote('organization_id')}, {quote(reference.column)})"
            f" REFERENCES {quote(reference.related_model._meta.db_table)} ({quote('organization_id')}, {quote('id')})"
            " DEFERRABLE INITIALLY DEFERRED"
        )

    def create_sql(self, model: Any, schema_editor: Any) -> str:
        table = schema_editor.quote_name(model._meta.db_table)
        return f"ALTER TABLE {table} ADD {self.constraint_sql(model, schema_editor)}"

    def remove_sql(self, model: Any, schema_editor: Any) -> str:
        quote = schema_editor.quote_name
        return f"ALTER TABLE {quote(model._meta.db_table)} DROP CONSTRAINT {quote(self.name)}"

    def validate(self, *args: Any, **kwargs: Any) -> None:
        """Leave it to the database: no form chooses these references."""

    def deconstruct(self) -> tuple[str, tuple[()], dict[str, Any]]:
        path, _, kwargs = super().deconstruct()
        return path, (), {**kwargs, "field": self.field}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SameOrganization):
            return (self.name, self.field) == (other.name, other.field)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.field))


_REFERS_TO_OWN = """
        IF EXISTS (
            SELECT FROM fresh WHERE {field}_id IS NOT NULL AND (
                SELECT true FROM {table} AS own
                WHERE own.organization_id = fresh.organization_id AND own.id = fresh.{field}_id
            ) IS NULL
        ) THEN
            RAISE EXCEPTION '{name}_{field}: it is none of the organization''s' USING ERRCODE = 'foreign_key_violation';
        END IF;"""


def refers_to_own(name: str, **tables: str) -> pgtrigger.Trigger:
    """Return a trigger that holds what `SameOrganization` does of an insert-only table, for a whole statement's rows.

    `tables` names what each field refers to: rows that are never deleted, so nothing has to be locked as a foreign key
    does for every row. Where many rows come at once, those locks would cost more than the rows.
    """
    checks = [_REFERS_TO_OWN.format(name=name, field=field, table=table) for field, table in tables.items()]
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        referencing=pgtrigger.Referencing(new="fresh"),  # type: ignore[no-untyped-call]
        func="".join(checks) + "\n        RETURN NULL;",
    )
