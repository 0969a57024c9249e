"""Metadata from a file's content: FITS header cards, HDF5 attributes, JSON, YAML, Parquet and Arrow schemas.

    values = extract(Path("run5.fits"))

More formats come by packages that offer an entry point of the group `spinor.metadata_extractors`; see `plugin`.
"""

from spinor.catalog.extraction.registry import extract, suitable

__all__ = ["extract", "suitable"]
