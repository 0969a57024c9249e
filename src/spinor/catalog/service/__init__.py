"""The verbs of the catalog."""

from spinor.catalog.service.directories import make_directories, permit_new_below
from spinor.catalog.service.reading import locate_files, stat_files
from spinor.catalog.service.registration import register_files

__all__ = ["locate_files", "make_directories", "permit_new_below", "register_files", "stat_files"]
