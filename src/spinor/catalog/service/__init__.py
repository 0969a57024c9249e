"""The verbs of the catalog."""

from spinor.catalog.service.batches import make_batch_directories, read_batch, register_batch
from spinor.catalog.service.directories import make_directories, permit_new_below
from spinor.catalog.service.explaining import explain
from spinor.catalog.service.finding import directories_below, list_directory, list_encoded, usage
from spinor.catalog.service.metadata import declare_keys, metadata_keys, set_metadata, show_metadata
from spinor.catalog.service.moving import move
from spinor.catalog.service.querying import count_files, facets, find_files, undeclare_keys
from spinor.catalog.service.reading import locate_files, stat_files
from spinor.catalog.service.registration import register_files
from spinor.catalog.service.removal import REMOVE_BYTES, due_removals, remove_files, settle_removals

__all__ = [
    "REMOVE_BYTES",
    "count_files",
    "declare_keys",
    "directories_below",
    "due_removals",
    "explain",
    "facets",
    "find_files",
    "list_directory",
    "list_encoded",
    "locate_files",
    "make_batch_directories",
    "make_directories",
    "metadata_keys",
    "move",
    "permit_new_below",
    "read_batch",
    "register_batch",
    "register_files",
    "remove_files",
    "set_metadata",
    "settle_removals",
    "show_metadata",
    "stat_files",
    "undeclare_keys",
    "usage",
]
