"""Find a storage plugin by the name that operations data give, or by the scheme of a URL."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast
from urllib.parse import urlsplit

from spinor.storage.plugin import StorageFault, StoragePlugin
from spinor.storage.plugins.file import FileStorage

GROUP = "spinor.storage"
_BUILT_IN: dict[str, type[StoragePlugin]] = {"file": FileStorage}


def plugin_class(name: str) -> type[StoragePlugin]:
    """The plugin of this name; raises StorageFault, whose sentence says how to get it."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for entry in entry_points(group=GROUP, name=name):
        return cast(type[StoragePlugin], entry.load())
    known = sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})
    raise StorageFault(
        f"There is no storage plugin {name!r} here (installed: {', '.join(known)}); "
        f"install the package that offers it as an entry point of the group {GROUP!r}.",
        plugin=name,
    )


def open_element(plugin: str, root: str, options: Mapping[str, Any], *, read_only: bool = False) -> StoragePlugin:
    """The plugin for one storage element."""
    return plugin_class(plugin)(root, options, read_only=read_only)


def open_url(url: str) -> tuple[StoragePlugin, str]:
    """The plugin for a URL, and the path in it."""
    scheme = urlsplit(url).scheme
    for kind in _BUILT_IN.values():
        if kind.scheme == scheme:
            return kind.at(url)
    for entry in entry_points(group=GROUP):
        kind = cast(type[StoragePlugin], entry.load())
        if kind.scheme == scheme:
            return kind.at(url)
    raise StorageFault(
        f"No storage plugin here understands {scheme}:// addresses; install the package that offers one as an entry "
        f"point of the group {GROUP!r}.",
        url=url,
    )
