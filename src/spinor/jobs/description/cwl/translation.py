"""A CWL v1.2 CommandLineTool and its job orders -> JobSpecs."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from spinor.jobs.description.cwl import requirements
from spinor.jobs.description.cwl.commandline import CommandLine, command_line
from spinor.jobs.description.cwl.expressions import Scope
from spinor.jobs.description.cwl.inputs import Inputs, Stage, secondary_name
from spinor.jobs.description.cwl.loading import BadCWL, load_tool
from spinor.jobs.description.faults import nearest
from spinor.jobs.description.placeholders import escaped
from spinor.jobs.description.structs import FIELDS
from spinor.jobs.models import JobSpec

_STREAMS = ("stdout", "stderr")


class Translation(msgspec.Struct, frozen=True, kw_only=True):
    specs: list[JobSpec]
    warnings: list[str] = []


def translate(
    text: str, orders: Sequence[Mapping[str, Any]] = ({},), folder: Path = Path(), order_folder: Path | None = None,
    scratch: Path | None = None,
) -> Translation:  # fmt: skip
    """One description for each job order. Local files become `input_sandbox`, with their absolute paths.

    `folder` is where the tool's own defaults lie, `order_folder` where files of the order do; what a tool wants to have
    written is written to `scratch`, in a directory for each order.
    """
    tool, source = load_tool(text, folder)
    specs, warnings = [], []
    for n, order in enumerate(orders):
        own = None if scratch is None else scratch / str(n)
        if own is not None:
            own.mkdir(parents=True, exist_ok=True)
        stage = Stage(own)
        inputs = Inputs(tool, stage, folder if order_folder is None else order_folder, folder)
        spec, said = _Tool(tool, source, stage, inputs.read(order)).spec()
        specs.append(spec)
        warnings += [warning for warning in said if warning not in warnings]
    return Translation(specs=specs, warnings=warnings)


class _Tool:
    def __init__(self, tool: Any, source: Any, stage: Stage, values: dict[str, Any]) -> None:
        self._tool = tool
        self._source = source
        self._stage = stage
        self._values = values
        bare = Scope(source, values, {})
        resources = requirements.all_of(tool).get("ResourceRequirement")
        known = requirements.resources(resources[0], bare) if resources else {}
        self._scope = Scope(source, values, _runtime(known))

    def spec(self) -> tuple[JobSpec, list[str]]:
        found = requirements.fields(self._tool, self._scope, self._stage)
        shell = "ShellCommandRequirement" in requirements.all_of(self._tool)
        streams = self._streams()
        fields: dict[str, Any] = {
            "name": self._tool.label or "",
            **self._command(command_line(self._tool, self._scope, self._values, shell)),
            **streams,
            "input_sandbox": list(dict.fromkeys(self._stage.sandbox)),
            "input_data": [escaped(lfn) for lfn in self._stage.lfns],
            **found.fields,
        }
        fields["environment"] = {name: escaped(value) for name, value in fields.get("environment", {}).items()}
        self._refuse_codes()
        hint = dict(found.hint)
        fields |= self._outputs(hint.pop("outputs", {}), streams)
        return self._with_hint(fields, hint), found.warnings

    def _with_hint(self, fields: dict[str, Any], hint: dict[str, Any]) -> JobSpec:
        for name in hint:
            if name not in FIELDS:
                near = nearest(name, FIELDS)
                problem = f"{requirements.HINT} has no field {name!r}" + (f"; did you mean {near}?" if near else "")
                raise self._source.refuse(name, problem)
        try:
            return msgspec.convert(_builtin({**fields, **hint}), JobSpec)
        except msgspec.ValidationError as error:
            raise self._source.refuse(requirements.HINT, f"{requirements.HINT}: {error}") from None

    def _refuse_codes(self) -> None:
        if (self._tool.successCodes or [0]) != [0]:
            raise self._source.refuse("successCodes", "successCodes: only exit code 0 is success")

    def _streams(self) -> dict[str, str]:
        found = {}
        for name in _STREAMS:
            given = getattr(self._tool, name)
            wanted = any(each.type_ == name for each in self._tool.outputs)
            if given is not None or wanted:
                found[name] = escaped(self._scope.text(given)) if given is not None else f"{name}.txt"
        return found

    def _command(self, line: CommandLine) -> dict[str, Any]:
        if not line.words:
            raise BadCWL("The tool has no command: neither baseCommand nor arguments.")
        words = [escaped(word.text) for word in line.words]
        if line.words[0].file and "/" not in words[0]:
            words[0] = f"./{words[0]}"  # A file of the job's directory, which PATH does not name.
        stdin = self._tool.stdin and escaped(self._scope.text(self._tool.stdin))
        if line.with_shell:
            quoted = zip(words, line.words, strict=True)
            text = " ".join(shlex.quote(text) if word.quoted else text for text, word in quoted)
            return {"executable": "/bin/sh", "arguments": ["-c", f"{text} < {shlex.quote(stdin)}" if stdin else text]}
        if stdin:
            arguments = ["-c", 'from=$1; shift; exec "$@" < "$from"', "sh", stdin, *words]
            return {"executable": "/bin/sh", "arguments": arguments}
        return {"executable": words[0], "arguments": words[1:]}

    def _outputs(self, places: dict[str, Any], streams: dict[str, str]) -> dict[str, Any]:
        """Everything comes back in the output sandbox, but what the hint gives an LFN goes to a storage element."""
        known = requirements.output_names(self._tool)
        for name in places:
            if name not in known:
                raise self._source.refuse(name, f"{requirements.HINT}: the tool has no output {name!r}")
        sandbox: list[str] = []
        data: list[dict[str, Any]] = []
        for name, each in known.items():
            for pattern in self._patterns(name, each, streams):
                if name not in places:
                    sandbox.append(pattern)
                    continue
                if not isinstance(places[name], dict):
                    raise self._source.refuse(name, f"{requirements.HINT}: outputs.{name} wants lfn and se")
                lfn = escaped(self._scope.text(places[name].get("lfn", "")))
                data.append({**places[name], "path": pattern, "lfn": lfn})
        return {"output_sandbox": list(dict.fromkeys(sandbox)), "output_data": data}

    def _patterns(self, name: str, each: Any, streams: dict[str, str]) -> list[str]:
        if each.type_ in _STREAMS:
            return [streams[each.type_]]
        binding = each.outputBinding
        if binding is None or binding.glob is None:
            problem = f"output {name} has no glob; only files that a glob names come back"
            raise self._source.refuse(name, problem)
        if binding.outputEval is not None:
            raise self._source.refuse("outputEval", f"output {name}: outputEval is not understood; name files by glob")
        found = self._scope.value(binding.glob) if isinstance(binding.glob, str) else binding.glob
        globs = [self._scope.text(pattern) for pattern in (found if isinstance(found, list) else [found])]
        beside = [
            secondary_name(glob, pattern.rstrip("?"))
            for each_pattern in each.secondaryFiles or []
            for glob in globs
            if "$" not in (pattern := str(each_pattern.pattern))
        ]
        # The braces of a pattern are text; only Spinor's own placeholders would be more.
        return [escaped(pattern) for pattern in (*globs, *beside)]


def _builtin(value: Any) -> Any:
    """Without ruamel.yaml's own kinds of text and numbers, which remember how they were written."""
    if isinstance(value, dict):
        return {_builtin(name): _builtin(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_builtin(each) for each in value]
    for kind in (str, bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


def _runtime(known: dict[str, Any]) -> dict[str, Any]:
    defaults = JobSpec(executable="-")
    disk_mib = int(known.get("disk_bytes", defaults.disk_bytes)) // (1024 * 1024)
    return {
        "cores": known.get("cores", defaults.cores),
        "ram": int(known.get("memory_bytes", defaults.memory_bytes)) // (1024 * 1024),
        "outdir": ".",  # The job's directory, where everything starts.
        "tmpdir": ".",
        "outdirSize": disk_mib,
        "tmpdirSize": disk_mib,
    }
