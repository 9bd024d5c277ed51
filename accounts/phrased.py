"""Models read by SQL that is phrased once a process.

Only for what every request asks: there the ORM takes several times longer to phrase a query and to make its rows into
models than PostgreSQL takes to answer it.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

M = TypeVar("M", bound=Model)


class Columns(Generic[M]):
    """The columns of a model in a query, `sql`, and an instance from their values.

    Of models alone whose values the database hands out as they are: one with a field that converts them is refused.
    """

    def __init__(self, model: type[M], table: str) -> None:
        fields = model._meta.concrete_fields
        if converted := [field.name for field in fields if hasattr(field, "from_db_value")]:
            raise TypeError(f"{model.__name__} converts {', '.join(converted)}")
        self._model = model
        self._names = [field.attname for field in fields]
        self.sql = ", ".join(f"{table}.{field.column}" for field in fields)
        self.count = len(fields)

    def read(self, values: Sequence[Any]) -> M:
        """Return the instance that a row, or a part of one, holds."""
        return self._model.from_db(DEFAULT_DB_ALIAS, self._names, values)
