"""A CWL tool's inputs: the job order's values, checked by type, and the files among them staged."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from spinor.jobs.description.cwl.loading import BadCWL
from spinor.jobs.description.faults import nearest, shown

_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "boolean": (bool,),
}
_MAX_CONTENTS = 64 * 1024


def short(identifier: str) -> str:
    """`file:///tool.cwl#message` is message, and `…#record/field` is field."""
    return identifier.rpartition("#")[2].rpartition("/")[2]


class Stage:
    """What lies in the job's directory under which name, and where it comes from."""

    def __init__(self, scratch: Path | None) -> None:
        self.sandbox: list[str] = []
        self.lfns: list[str] = []
        self._scratch = scratch
        self._names: dict[str, str] = {}  # In the job's directory -> where from.

    def local(self, path: Path, name: str) -> None:
        if not self._claim(name, str(path.resolve())):
            return
        if not path.exists():
            raise BadCWL(f"{name}: there is no file {str(path)!r}.")
        if path.name != name:
            # Files travel by their own name, so that one with another gets a copy of that name.
            copy = self._below(name)
            shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy)
            path = copy
        self.sandbox.append(str(path.absolute()))

    def lfn(self, lfn: str, name: str) -> None:
        if lfn.rpartition("/")[2] != name:
            raise BadCWL(f"{shown(lfn)} comes under its own name; basename {shown(name)} cannot be given to it.")
        if self._claim(name, lfn):
            self.lfns.append(lfn)

    def literal(self, name: str, content: str) -> None:
        if not self._claim(name, f"literal {content}"):
            return
        path = self._below(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        top = str(self._below(name.partition("/")[0]))
        if top not in self.sandbox:
            self.sandbox.append(top)

    def _claim(self, name: str, origin: str) -> bool:
        """Whether the name is new; the same file again is no fault."""
        if not name or name in (".", "..") or name.startswith("/") or ".." in name.split("/"):
            raise BadCWL(f"{shown(name)} is not a name inside the job's directory.")
        earlier = self._names.get(name)
        if earlier not in (None, origin):
            raise BadCWL(f"Two files would both be {shown(name)} in the job's directory; give one another basename.")
        self._names[name] = origin
        return earlier is None

    def _below(self, name: str) -> Path:
        if self._scratch is None:
            raise BadCWL(f"{shown(name)} would have to be written first, and there is no place for it.")
        return self._scratch / name


class Inputs:
    """Reads one job order against the tool's inputs."""

    def __init__(self, tool: Any, stage: Stage, folder: Path, tool_folder: Path) -> None:
        self._parameters = {short(each.id): each for each in tool.inputs}
        self._stage = stage
        self._folder = folder
        self._tool_folder = tool_folder

    def read(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Raises BadCWL that names the input."""
        for name in order:
            if name not in self._parameters and ":" not in str(name):
                near = nearest(str(name), self._parameters)
                hint = f"did you mean {near}?" if near else f"there is {', '.join(self._parameters) or 'none'}."
                raise BadCWL(f"the tool has no input {shown(str(name))}; {hint}", field=str(name))
        return {name: self._one(name, parameter, order) for name, parameter in self._parameters.items()}

    def _one(self, name: str, parameter: Any, order: Mapping[str, Any]) -> Any:
        value, folder = order.get(name), self._folder
        if value is None and parameter.default is not None:
            value, folder = _plain(parameter.default), self._tool_folder
        try:
            found = self._typed(parameter.type_, value, folder, parameter.secondaryFiles or [])
        except BadCWL as error:
            raise BadCWL(f"{name}: {error.message}", field=name) from None
        if found is _NOT:
            given = "is not given, and has no default" if value is None else f"{shown(str(value))} does not fit"
            raise BadCWL(f"{name}: {given}; it is {type_name(parameter.type_)}", field=name)
        if parameter.loadContents and isinstance(found, dict) and "contents" not in found:
            raise BadCWL(f"{name}: loadContents works on files of this machine only", field=name)
        return found

    def _typed(self, kind: Any, value: Any, folder: Path, secondary: Sequence[Any]) -> Any:
        """The value as this type, or _NOT."""
        if isinstance(kind, list):
            return next((v for each in kind if (v := self._typed(each, value, folder, secondary)) is not _NOT), _NOT)
        if kind == "null":
            return None if value is None else _NOT
        if kind in ("File", "Directory") or (kind == "Any" and _is_file(value)):
            return self._file(value, folder, secondary) if _is_file(value, kind) else _NOT
        if kind == "Any":
            return _NOT if value is None else value
        if isinstance(kind, str):
            types = _KINDS.get(kind, ())
            return value if isinstance(value, types) and (kind == "boolean") == isinstance(value, bool) else _NOT
        if kind.type_ == "array":
            if not isinstance(value, list):
                return _NOT
            items = [self._typed(kind.items, item, folder, secondary) for item in value]
            return _NOT if any(item is _NOT for item in items) else items
        if kind.type_ == "enum":
            return value if value in [short(symbol) for symbol in kind.symbols] else _NOT
        return self._record(kind, value, folder)

    def _record(self, kind: Any, value: Any, folder: Path) -> Any:
        if not isinstance(value, dict):
            return _NOT
        fields = {short(field.name): field for field in kind.fields or []}
        if value.keys() - fields.keys():
            return _NOT
        found = {name: self._typed(each.type_, value.get(name), folder, []) for name, each in fields.items()}
        return _NOT if any(each is _NOT for each in found.values()) else found

    def _file(self, given: Mapping[str, Any], folder: Path, secondary: Sequence[Any]) -> dict[str, Any]:
        location = str(given.get("location") or given.get("path") or "")
        contents = given.get("contents")
        if not location and contents is None:
            raise BadCWL("a File needs location, path or contents; a literal Directory is not understood")
        name = str(given.get("basename") or location.rstrip("/").rpartition("/")[2] or "literal")
        found = {"class": given["class"], "basename": name, "path": name, "location": location}
        root, dot, extension = name.rpartition(".")
        found |= {"nameroot": root, "nameext": f".{extension}"} if dot and root else {"nameroot": name, "nameext": ""}
        scheme = urlsplit(location).scheme.lower() if location else ""
        if contents is not None and not location:
            self._stage.literal(name, str(contents))
            found |= {"contents": str(contents), "size": len(str(contents).encode())}
        elif scheme == "lfn":
            if given["class"] == "Directory":
                raise BadCWL(f"{shown(location)} is a directory of the catalog; name its files, as an array of File")
            self._stage.lfn(location[4:], name)
            self._secondary(location[4:], name, secondary, None)
        elif scheme in ("", "file"):
            path = Path(unquote(urlsplit(location).path)) if scheme else folder / location
            self._stage.local(path, name)
            found |= _seen(path)
            self._secondary(str(path), name, secondary, path.parent)
        else:
            raise BadCWL(f"{shown(location)}: {scheme} is not read; give a local path, or lfn:/<vo>/…")
        for each in given.get("secondaryFiles") or []:
            self._file(each, folder, [])
        return found

    def _secondary(self, place: str, name: str, patterns: Sequence[Any], folder: Path | None) -> None:
        """Files beside a file: local ones if they are there, those of the catalog if they are required."""
        for pattern in patterns:
            text = str(pattern.pattern)
            if "$" in text:
                raise BadCWL(f"secondaryFiles {shown(text)} is an expression; write a suffix such as .bai or ^.bai")
            beside = secondary_name(name, text.rstrip("?"))
            required = pattern.required is not False and not text.endswith("?")
            if folder is None:
                if required:
                    self._stage.lfn(f"{place.rpartition('/')[0]}/{beside}", beside)
            elif required or (folder / beside).exists():
                self._stage.local(folder / beside, beside)


def secondary_name(name: str, pattern: str) -> str:
    """`^` takes one extension away."""
    while pattern.startswith("^"):
        name, pattern = name.rpartition(".")[0] or name, pattern[1:]
    return name + pattern


class _No:
    pass


_NOT: Any = _No()


def _is_file(value: Any, kind: str = "Any") -> bool:
    return isinstance(value, dict) and value.get("class") in (("File", "Directory") if kind == "Any" else (kind,))


def _seen(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    size = path.stat().st_size
    if size > _MAX_CONTENTS:
        return {"size": size}
    return {"size": size, "contents": path.read_text(encoding="utf-8", errors="replace")}


def _plain(default: Any) -> Any:
    """A default as a job order would have it: cwl-utils makes objects of File and Directory."""
    if isinstance(default, list):
        return [_plain(each) for each in default]
    if isinstance(default, dict):
        return {name: _plain(each) for name, each in default.items()}
    if getattr(default, "class_", None) in ("File", "Directory"):
        names = ("location", "path", "basename", "contents", "secondaryFiles")
        given = {name: _plain(getattr(default, name, None)) for name in names}
        return {"class": default.class_, **{name: each for name, each in given.items() if each is not None}}
    return default


def type_name(kind: Any) -> str:
    if isinstance(kind, list):
        return " or ".join(map(type_name, kind))
    if isinstance(kind, str):
        return short(kind)
    if kind.type_ == "array":
        return f"an array of {type_name(kind.items)}"
    if kind.type_ == "enum":
        return f"one of {', '.join(short(symbol) for symbol in kind.symbols)}"
    return f"a record with {', '.join(short(field.name) for field in kind.fields or [])}"
