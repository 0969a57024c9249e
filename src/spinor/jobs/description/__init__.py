"""Descriptions: everything between what a user writes and a checked, normalised JobSpec.

All of it is pure; each fault names the field and the remedy. What needs the database (files, storage elements, sites,
sandboxes, other jobs) is checked in `jobs/submission/validation.py`.
"""

from spinor.jobs.description.amounts import duration_s, size_bytes, text_of
from spinor.jobs.description.checks import is_plain, is_plain_name
from spinor.jobs.description.faults import BadDescription, fault, nearest, shown
from spinor.jobs.description.normal import MAX_NAME, normalised
from spinor.jobs.description.placeholders import (
    BUILT_IN,
    MAX_JOBS,
    escaped,
    expanded,
    fill,
    fill_list,
    has_placeholder,
    placeholders_in,
    size_of,
    strings_of,
    values_of,
)
from spinor.jobs.description.places import is_pattern

MAX_DESCRIPTION_BYTES = 1024 * 1024

__all__ = [
    "BUILT_IN",
    "MAX_DESCRIPTION_BYTES",
    "MAX_JOBS",
    "MAX_NAME",
    "BadDescription",
    "duration_s",
    "escaped",
    "expanded",
    "fault",
    "fill",
    "fill_list",
    "has_placeholder",
    "is_pattern",
    "is_plain",
    "is_plain_name",
    "nearest",
    "normalised",
    "placeholders_in",
    "shown",
    "size_bytes",
    "size_of",
    "strings_of",
    "text_of",
    "values_of",
]
