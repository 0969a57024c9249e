"""JSON and YAML: the scalars at the top of the document."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spinor.catalog.extraction.plugin import NoMetadata
from spinor.terminal import printable


class JSON:
    endings: tuple[str, ...] = (".json",)

    def extract(self, path: Path) -> Mapping[str, Any]:
        try:
            return _object(json.loads(path.read_bytes()), path)
        except (ValueError, RecursionError) as error:
            raise NoMetadata(f"{printable(path.name)} is not JSON: {error}.") from None


class YAML:
    endings: tuple[str, ...] = (".yaml", ".yml")

    def extract(self, path: Path) -> Mapping[str, Any]:
        try:
            return _object(yaml.safe_load(path.read_bytes()), path)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise NoMetadata(f"{printable(path.name)} is not YAML: {' '.join(str(error).split())[:200]}.") from None


def _object(document: Any, path: Path) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise NoMetadata(f"{printable(path.name)} has no names at its top: it is a list or a single value.")
    return {key: value for key, value in document.items() if isinstance(key, str)}
