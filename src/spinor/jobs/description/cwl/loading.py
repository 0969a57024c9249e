"""CWL text -> a tool as cwl-utils has it, valid by the standard's own schema. Nothing outside the text is read."""

import re
from pathlib import Path
from typing import Any

import yaml

from spinor.errors import SpinorError
from spinor.jobs.description.documents import Text
from spinor.jobs.description.faults import BadDescription, nearest

MAX_TOOL_BYTES = 1024 * 1024
_IMPORTS = re.compile(r"^[\s\-{,]*[\"']?(\$import|\$include|\$mixin)[\"']?\s*:", re.MULTILINE)
_STANDARD = frozenset(
    f"{name}Requirement"
    for name in (
        *("Docker", "EnvVar", "InitialWorkDir", "InlineJavascript", "InplaceUpdate", "LoadListing"),
        *("MultipleInputFeature", "Resource", "ScatterFeature", "SchemaDef", "ShellCommand", "Software"),
        *("StepInputExpression", "SubworkflowFeature"),
    )
) | {"NetworkAccess", "WorkReuse", "ToolTimeLimit"}
_LINE = re.compile(r"tool\.cwl:(\d+):(\d+):\s*")


class BadCWL(BadDescription):
    """The CWL tool is refused."""

    code = "bad-cwl"


class NoCWL(SpinorError):
    """CWL needs cwl-utils; install it by `pip install 'spinor[cwl]'`."""

    code = "cwl-not-installed"


class Source:
    """The tool's text, and where in it a word stands that is refused."""

    def __init__(self, text: str) -> None:
        self.text = text

    def refuse(self, word: str, problem: str) -> BadCWL:
        position = self.text.find(word.splitlines()[0] if word else word)
        if not word or position < 0:
            return BadCWL(problem)
        line = self.text.count("\n", 0, position) + 1
        column = position - self.text.rfind("\n", 0, position)
        return BadCWL(f"line {line}, column {column}: {problem}", line=line, column=column)


def load_tool(text: str, folder: Path) -> tuple[Any, Source]:
    """Relative locations in it start from `folder`. Raises BadCWL with line and column, NoCWL."""
    source = Source(text)
    if len(text) > MAX_TOOL_BYTES:
        raise BadCWL(f"The tool has {len(text):,} characters; {MAX_TOOL_BYTES:,} are the most.")
    imported = _IMPORTS.search(text)
    if imported:
        raise source.refuse(imported.group(1), f"{imported.group(1)} is not followed; put all into one file")
    documents = Text(text).documents()  # It bounds depth and aliases before anything else reads the text.
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BadCWL("It is not one CWL document with fields.")
    version, kind = documents[0].get("cwlVersion"), documents[0].get("class")
    if version != "v1.2":
        raise source.refuse("cwlVersion", f"cwlVersion is {version!r}, not v1.2 (cwl-upgrader makes it of older ones)")
    if kind != "CommandLineTool":
        wanted = "a CommandLineTool is one job"
        raise source.refuse("class", f"class is {kind!r}, and {wanted}; submit the tools of a workflow one by one")
    return _validated(text, f"{folder.resolve().as_uri()}/tool.cwl", documents[0], source), source


def _validated(text: str, uri: str, plain: dict[str, Any], source: Source) -> Any:
    try:
        from cwl_utils.parser import cwl_v1_2
        from schema_salad.exceptions import SchemaSaladException
        from schema_salad.fetcher import DefaultFetcher
        from schema_salad.runtime import LoadingOptions
        from schema_salad.sourceline import add_lc_filename
        from schema_salad.utils import yaml_no_ts
    except ImportError:
        raise NoCWL() from None

    class NothingElse(DefaultFetcher):
        """No other file and no other host is asked, whatever the text names."""

        def fetch_text(self, url: str, content_types: list[str] | None = None) -> str:
            raise SchemaSaladException(f"{url} is not fetched")

        def check_exists(self, url: str) -> bool:
            return True

    try:
        _check_requirements(plain, cwl_v1_2, source)
        document = yaml_no_ts().load(text)
        add_lc_filename(document, uri)
        options = LoadingOptions(fetcher=NothingElse({}, None), fileuri=uri)
        return cwl_v1_2.load_document_by_yaml(document, uri, options)
    except SchemaSaladException as error:
        raise _invalid(str(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        # ruamel.yaml's own errors are ValueErrors or YAMLErrors of another package with the same text.
        raise BadCWL(f"The tool cannot be read: {(str(error).splitlines() or ['it is no CWL'])[0][:200]}.") from None


def _check_requirements(plain: dict[str, Any], models: Any, source: Source) -> None:
    """Names and fields of requirements, of which schema-salad only says that one of them is wrong."""
    given = plain.get("requirements") or []
    pairs = given.items() if isinstance(given, dict) else [(e.get("class"), e) for e in given if isinstance(e, dict)]
    for name, each in pairs:
        model = getattr(models, str(name), None)
        if name not in _STANDARD or model is None:
            raise source.refuse(str(name), f"{name} is not understood, and the tool requires it")
        for wrong in sorted(set(each if isinstance(each, dict) else ()) - set(model.attrs)):
            near = nearest(str(wrong), model.attrs)
            hint = f"; did you mean {near}?" if near else f"; there is {', '.join(sorted(model.attrs - {'class'}))}"
            raise source.refuse(str(wrong), f"{name} has no field {wrong}{hint}")


def _invalid(report: str) -> BadCWL:
    """The innermost place that schema-salad names, and its sentences."""
    places = _LINE.findall(report)
    sentences = " ".join(" ".join(re.sub(r"^\S*tool\.cwl:\d+:\d+:", "", line).split()) for line in report.splitlines())
    sentences = sentences.replace("Object `tool.cwl` is not valid because: ", "").strip(" *")[:600]
    if not places:
        return BadCWL(f"It is not valid CWL: {sentences}")
    line, column = max((int(line), int(column)) for line, column in places)
    return BadCWL(f"line {line}, column {column}: it is not valid CWL: {sentences}", line=line, column=column)
