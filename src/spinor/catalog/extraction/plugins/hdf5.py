"""HDF5: the attributes of the root group. Needs the package h5py."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinor.catalog.extraction.plugin import MissingLibrary, NoMetadata
from spinor.terminal import printable


class HDF5:
    endings: tuple[str, ...] = (".h5", ".hdf5", ".he5", ".nc")

    def extract(self, path: Path) -> Mapping[str, Any]:
        try:
            h5py = importlib.import_module("h5py")
        except ImportError:
            raise MissingLibrary(
                f"{printable(path.name)} is an HDF5 file by its name, and the package h5py, which reads such files, is "
                "not installed; install it beside Spinor (pip install h5py)."
            ) from None
        with path.open("rb") as file:
            try:
                with h5py.File(file, "r") as content:
                    return dict(content.attrs.items())
            except OSError as error:
                raise NoMetadata(f"{printable(path.name)} is no HDF5 file: {error}.") from None
