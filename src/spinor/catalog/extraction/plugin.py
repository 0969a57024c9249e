"""The contract of a metadata extractor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from spinor.errors import BadInput

GROUP = "spinor.metadata_extractors"


class NoMetadata(BadInput):
    """The file is not of the format that its name says."""

    code = "no-metadata"


class MissingLibrary(BadInput):
    """A library that reads this format is not installed."""

    code = "missing-library"


class Extractor(Protocol):
    """Reads one format. An entry point of the group `spinor.metadata_extractors` gives an instance.

    `endings` are those of the names of files that it reads, in lower case, with their dot: `(".root",)`.
    """

    endings: tuple[str, ...]

    def extract(self, path: Path) -> Mapping[str, Any]:
        """Key -> value. Values that are no text, number, boolean or time are passed over.

        Raises NoMetadata with a sentence, if this is no such file; OSError, if it cannot be read.
        """
