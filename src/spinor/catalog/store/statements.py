"""The catalog's statements, and what its constraints mean."""

from collections.abc import Sequence

from spinor.catalog.datasets.errors import DatasetExists
from spinor.catalog.errors import CountersWrong, GuidTaken, LFNExists
from spinor.db import Queries, array_text
from spinor.errors import SpinorError

Q = Queries("spinor.catalog")


ERRORS: dict[str, type[SpinorError]] = {
    "file_name_unique": LFNExists,
    "directory_name_unique": LFNExists,
    "file_guid_unique": GuidTaken,
    "dataset_name_unique": DatasetExists,
    "directory_files_positive": CountersWrong,
    "directory_bytes_positive": CountersWrong,
    "directory_annotated_within": CountersWrong,
    "directory_usage_files_positive": CountersWrong,
    "directory_usage_bytes_positive": CountersWrong,
}


def columns_of(places: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }
