"""Sites, computing elements and storage elements."""

from datetime import datetime
from typing import Any

import msgspec

from spinor.resources.status.models import Access, HeldAccess


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A place, with the elements of it that the asking VO may use."""

    site_id: int
    name: str
    computing_elements: list[str]
    storage_elements: list[str]


class ComputingElement(msgspec.Struct, frozen=True, kw_only=True):
    """A way to machines. Cores, memory and time are what one pilot gets; `max_pilots` counts those of all VOs."""

    ce_id: int
    name: str
    site_id: int
    site: str
    plugin: str
    cores: int
    memory_bytes: int
    wall_s: int
    max_pilots: int
    options: dict[str, Any]
    vos: list[str]
    vo_ids: list[int]
    retired_at: datetime | None = None
    max_waiting: int | None = None  # Pilots that have not enrolled yet, of all VOs.
    max_pilots_of_vos: dict[str, int] = {}
    max_submissions_per_minute: int | None = None
    site_max_pilots: int | None = None  # Of all elements of its site together.


class StorageElement(msgspec.Struct, frozen=True, kw_only=True):
    """A place for files. PFNs are relative to `root`, which is a directory or a URL."""

    se_id: int
    name: str
    site: str | None
    plugin: str
    root: str
    read_only: bool
    options: dict[str, Any]
    held: dict[Access, HeldAccess] = {}  # What is not active.


class PublicComputingElement(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may know of a computing element: all but its options, where its operator's settings are."""

    name: str
    site: str
    plugin: str
    cores: int
    memory_bytes: int
    wall_s: int
    max_pilots: int


class PublicStorageElement(msgspec.Struct, frozen=True, kw_only=True):
    """What a user may know of a storage element: all but its options, where its operator's settings are."""

    name: str
    site: str | None
    plugin: str
    root: str
    read_only: bool
    held: dict[Access, HeldAccess] = {}  # What is not active.

    @property
    def out_of_use(self) -> str:
        """The kinds of access that are not active, each with its status."""
        return ", ".join(f"{access.value} {held.status.value}" for access, held in sorted(self.held.items()))


class WantedSite(msgspec.Struct, frozen=True, kw_only=True):
    """A site as the operations data want it."""

    name: str
    max_pilots: int | None = None
    administrators: list[str] = []


class WantedComputingElement(msgspec.Struct, frozen=True, kw_only=True):
    """A computing element as the operations data want it."""

    site: str
    name: str
    plugin: str
    cores: int
    memory_bytes: int
    wall_s: int
    max_pilots: int
    options: dict[str, Any]
    vos: list[str]
    max_waiting: int | None = None
    max_pilots_of_vos: dict[str, int] = {}
    max_submissions_per_minute: int | None = None


class WantedStorageElement(msgspec.Struct, frozen=True, kw_only=True):
    """A storage element as the operations data want it."""

    site: str
    name: str
    plugin: str
    root: str
    read_only: bool
    options: dict[str, Any]
    vos: list[str]


class FitnessPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When nodes and computing elements are taken out of use by themselves. The operations data may say otherwise."""

    window_s: int = 1800
    pilots_of_node: int = 2  # So many pilots that find their node unfit within the window: the node is masked.
    nodes: int = 3  # So many nodes of an element that are unfit within the window, or masked: the element is probed.
    mask_s: int = 6 * 3600
    black_hole_jobs: int = 5  # So many jobs that failed at once, for reasons of the site, on one node: it is masked.
    black_hole_job_s: int = 30  # What counts as at once.
    black_hole_window_s: int = 300
    probe_every_s: int = 6 * 3600  # An element where no job ended well for so long is probed; 0: never.
    probe_failures: int = 2  # So many such probes that failed in a row: the element is degraded.
