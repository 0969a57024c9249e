"""Find the extractor for a file by the ending of its name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from spinor.catalog import rules
from spinor.catalog.extraction.plugin import GROUP, Extractor, NoMetadata
from spinor.catalog.extraction.plugins.columnar import Columnar
from spinor.catalog.extraction.plugins.fits import FITS
from spinor.catalog.extraction.plugins.hdf5 import HDF5
from spinor.catalog.extraction.plugins.texts import JSON, YAML
from spinor.catalog.manifests.values import fitting
from spinor.catalog.models import MetadataValue
from spinor.terminal import printable


@cache
def extractors() -> tuple[Extractor, ...]:
    """Those of other packages first, so that one of them can read a format better than ours."""
    others = (cast(Extractor, entry.load()) for entry in entry_points(group=GROUP))
    return (*others, FITS(), HDF5(), JSON(), YAML(), Columnar())


def suitable(path: Path) -> Extractor:
    """Raises NoMetadata."""
    name = path.name.lower()
    for extractor in extractors():
        if name.endswith(extractor.endings):
            return extractor
    known = ", ".join(sorted({ending for extractor in extractors() for ending in extractor.endings}))
    raise NoMetadata(
        f"{printable(path.name)}: nothing here reads metadata from such a file; names that are known end in {known}. "
        f"A package with an entry point of the group {GROUP!r} adds more."
    )


def extract(path: Path) -> dict[str, MetadataValue]:
    """What a file says of itself: values under names that can be keys. Raises NoMetadata, MissingLibrary, OSError."""
    return dict(_legal(path))


def _legal(path: Path) -> Iterator[tuple[str, MetadataValue]]:
    for key, value in suitable(path).extract(path).items():
        # What is no text or number, or cannot be a key, is no metadata of the catalog.
        if not rules.key_fault(key) and (fits := fitting(value, None)) is not None:
            yield key, fits
