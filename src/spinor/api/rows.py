"""Results as tables of other libraries."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from spinor.errors import SpinorError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class LibraryMissing(SpinorError):
    """A library that this needs is not installed."""

    code = "library-missing"


class Tabular:
    """A result that is a sequence of rows; libraries are imported when they are asked for."""

    def records(self) -> Sequence[Mapping[str, Any]]:
        """The rows, each by name."""
        raise NotImplementedError

    def to_arrow(self) -> "pa.Table":
        """An Arrow table: times in UTC, lists as lists."""
        try:
            import pyarrow as pa
        except ImportError:
            raise LibraryMissing("pyarrow is not installed here; run `%pip install pyarrow`.") from None
        return pa.Table.from_pylist([_plain(row) for row in self.records()])

    def to_pandas(self) -> "pd.DataFrame":
        """A data frame, one row each."""
        try:
            import pandas as pd
        except ImportError:
            raise LibraryMissing("pandas is not installed here; run `%pip install pandas`.") from None
        return pd.DataFrame.from_records([_plain(row) for row in self.records()])


def record(row: msgspec.Struct) -> dict[str, Any]:
    """A model as a row: its fields by name."""
    return {name: getattr(row, name) for name in row.__struct_fields__}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_plain_items(row))


def _plain_items(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, str):
            yield name, time_of(value) if name.endswith("_at") or name in ("created", "modified") else str(value)
        else:
            yield name, value


def time_of(value: str) -> Any:
    """A time as one; whatever is none stays as it is."""
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value
