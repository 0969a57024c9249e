"""Requirements and hints of a CWL tool -> fields of a description."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from spinor.jobs.description.cwl.expressions import Scope
from spinor.jobs.description.cwl.inputs import Stage, short
from spinor.jobs.description.cwl.loading import Source

_MEBIBYTE = 1024 * 1024
# What is true of every job here, or makes no difference to one tool.
_NOTHING_TO_DO = frozenset(
    {
        "InlineJavascriptRequirement",  # An expression that needs it is refused where it stands.
        "LoadListingRequirement",
        "NetworkAccess",
        "WorkReuse",
        "SchemaDefRequirement",
        "ShellCommandRequirement",
        "MultipleInputFeatureRequirement",
        "ScatterFeatureRequirement",
        "StepInputExpressionRequirement",
        "SubworkflowFeatureRequirement",
    }
)
HINT = "spinor:Job"


@dataclass
class Found:
    fields: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    hint: dict[str, Any] = field(default_factory=dict)  # Spinor's own: fields of the description, and `outputs`.


def all_of(tool: Any) -> dict[str, tuple[Any, bool]]:
    """By class, and whether it is required; a requirement goes before a hint of its class."""
    found: dict[str, tuple[Any, bool]] = {}
    for required, each in (
        *((False, hint) for hint in tool.hints or []),
        *((True, r) for r in tool.requirements or []),
    ):
        name = each.get("class") if isinstance(each, dict) else getattr(each, "class_", type(each).__name__)
        found[str(name)] = (each, required)
    return found


def fields(tool: Any, scope: Scope, stage: Stage) -> Found:
    """Raises BadCWL that names a requirement which is not understood; a hint is left out, with a warning."""
    found = Found()
    readers: dict[str, Callable[[Any, Scope, Stage], dict[str, Any]]] = {
        "DockerRequirement": _image,
        "EnvVarRequirement": _environment,
        "InitialWorkDirRequirement": _work_dir,
        "ResourceRequirement": lambda each, scope, _: resources(each, scope),
        "ToolTimeLimit": _time,
    }
    for name, (each, required) in all_of(tool).items():
        if name == HINT:
            found.hint = {key: value for key, value in each.items() if key != "class"}
        elif name.endswith("CUDARequirement") and isinstance(each, dict):
            found.fields["gpus"] = _gpus(each)
        elif name in readers:
            found.fields |= readers[name](each, scope, stage)
        elif name not in _NOTHING_TO_DO:
            if required:
                raise scope.source.refuse(name, f"{name} is not understood, and the tool requires it")
            found.warnings.append(f"the hint {name} is left out: it is not understood")
    wanted = all_of(tool).get("ResourceRequirement")
    if wanted and wanted[0].ramMax is not None and wanted[0].ramMin is not None:
        found.warnings.append("ramMax is what the job asks for: what it asks for is its limit, too")
    return found


def _image(each: Any, scope: Scope, _: Stage) -> dict[str, Any]:
    for name in ("dockerFile", "dockerLoad", "dockerImport", "dockerOutputDirectory"):
        if getattr(each, name) is not None:
            problem = f"{name} is not understood; put the image into a registry and name it by dockerPull"
            raise scope.source.refuse(name, problem)
    image = each.dockerPull or each.dockerImageId
    if not image:
        raise scope.source.refuse("DockerRequirement", "DockerRequirement names no image; give dockerPull")
    file = image.startswith(("/", "./")) or image.endswith((".sif", ".sqfs"))
    return {"container_image": image if file or "://" in image else f"docker://{image}"}


def _environment(each: Any, scope: Scope, _: Stage) -> dict[str, Any]:
    return {"environment": {entry.envName: scope.text(entry.envValue) for entry in each.envDef}}


def _time(each: Any, scope: Scope, _: Stage) -> dict[str, Any]:
    seconds = _number(each.timelimit, scope, "timelimit")
    return {"wall_s": ceil(seconds)} if seconds else {}


def _gpus(each: dict[str, Any]) -> int:
    count = each.get("cudaDeviceCountMin", each.get("cudaDeviceCountMax", 1))
    return count if isinstance(count, int) else 1


def resources(each: Any, scope: Scope) -> dict[str, Any]:
    """Where only one of minimum and maximum is given, the other is the same."""
    found: dict[str, Any] = {}
    least, most = _range(each, scope, "cores")
    if least is not None and most is not None:
        found["cores"] = max(1, ceil(least))
        if ceil(most) > found["cores"]:
            found["max_cores"] = ceil(most)
    _, memory = _range(each, scope, "ram")
    if memory is not None:
        found["memory_bytes"] = ceil(memory * _MEBIBYTE)
    disks = [most for _, most in (_range(each, scope, "tmpdir"), _range(each, scope, "outdir")) if most is not None]
    if disks:
        found["disk_bytes"] = ceil(sum(disks) * _MEBIBYTE)
    return found


def _range(each: Any, scope: Scope, what: str) -> tuple[float | None, float | None]:
    low, high = (
        None if getattr(each, name) is None else _number(getattr(each, name), scope, name)
        for name in (f"{what}Min", f"{what}Max")
    )
    if low is not None and high is not None and high < low:
        raise scope.source.refuse(f"{what}Max", f"{what}Max is {high:g}, less than {what}Min, {low:g}")
    return (high if low is None else low), (low if high is None else high)


def _number(given: Any, scope: Scope, name: str) -> float:
    value = scope.value(given)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise scope.source.refuse(name, f"{name} is {value!r}, which is not a number of 0 or more")
    return float(value)


def _work_dir(each: Any, scope: Scope, stage: Stage) -> dict[str, Any]:
    source: Source = scope.source
    listing = each.listing if isinstance(each.listing, list) else [each.listing]
    for entry in listing:
        if isinstance(entry, str):
            _staged_already(scope.value(entry), entry, source)
        elif getattr(entry, "class_", None) in ("File", "Directory"):
            if getattr(entry, "contents", None) is None or not entry.basename:
                raise source.refuse("listing", "a File of InitialWorkDirRequirement needs basename and contents")
            stage.literal(entry.basename, str(entry.contents))
        elif hasattr(entry, "entry"):
            _entry(entry, scope, stage)
    return {}


def _entry(entry: Any, scope: Scope, stage: Stage) -> None:
    value = scope.value(entry.entry)
    if isinstance(value, str):
        if entry.entryname is None:
            raise scope.source.refuse("entry", "a text of InitialWorkDirRequirement needs entryname")
        stage.literal(scope.text(entry.entryname), value)
        return
    for file in _staged_already(value, str(entry.entry), scope.source):
        wanted = scope.text(entry.entryname) if entry.entryname is not None else file["basename"]
        if wanted != file["basename"]:
            problem = f"entryname {wanted!r}: a staged file keeps its own name, {file['basename']!r}"
            raise scope.source.refuse("entryname", problem)


def _staged_already(value: Any, text: str, source: Source) -> Iterator[dict[str, Any]]:
    """Input files lie in the job's directory anyway, and may be written to."""
    files = value if isinstance(value, list) else [value]
    for file in files:
        if file is not None and not (isinstance(file, dict) and file.get("class") in ("File", "Directory")):
            raise source.refuse(text, f"{text} is not a file")
    return iter([file for file in files if file is not None])


def output_names(tool: Any) -> dict[str, Any]:
    return {short(each.id): each for each in tool.outputs}
