"""Parquet and Arrow files: the metadata of their schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinor.catalog.extraction.plugin import NoMetadata
from spinor.terminal import printable

_OF_WRITERS = {b"ARROW:schema", b"pandas"}  # What libraries keep there for themselves.


class Columnar:
    endings: tuple[str, ...] = (".parquet", ".arrow", ".feather")

    def extract(self, path: Path) -> Mapping[str, Any]:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with path.open("rb") as file:
                if path.suffix.lower() == ".parquet":
                    found = parquet.read_schema(file).metadata
                else:
                    with pa.ipc.open_file(file) as content:
                        found = content.schema.metadata
        except pa.ArrowException as error:
            raise NoMetadata(f"{printable(path.name)} cannot be read: {str(error)[:200]}.") from None
        return {key.decode(errors="replace"): value for key, value in (found or {}).items() if key not in _OF_WRITERS}
