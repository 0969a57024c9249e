"""Pure checks of the texts, names, parameters and placeholders of a description."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from spinor.jobs.description.faults import fault, nearest, shown
from spinor.jobs.description.placeholders import (
    BUILT_IN,
    MAX_JOBS,
    PLACEHOLDER,
    is_element,
    joined,
    size_of,
    strings_of,
)
from spinor.jobs.models import JobSpec

MAX_NAME = 255
MAX_WORDS = 1000  # Of one list of names.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLATFORM = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PATTERN = re.compile(r"[*?\[]")
_URL_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*@", re.IGNORECASE)
# What a payload can catch. SIGKILL and SIGSTOP it cannot, and the others mean something else already.
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGXCPU", "SIGCONT")


def signal(name: str) -> str:
    word = name.strip().upper()
    word = word if word.startswith("SIG") else f"SIG{word}"
    if word not in SIGNALS:
        raise fault(
            "stop_signal", f"{shown(name)} is not a signal that a payload can act on; there is {', '.join(SIGNALS)}"
        )
    return word


def texts(spec: JobSpec) -> None:
    if not spec.executable.strip():
        raise fault("executable", "is empty; name a program on PATH, or a file of the input sandbox such as ./run.sh")
    if spec.input_sandbox:
        raise fault("input_sandbox", "holds paths of the sender's machine; upload them and send `input_sandboxes`")
    for field, text in _lines(spec):
        if len(text) > MAX_NAME and field not in ("executable", "input_query", "container_image"):
            raise fault(field, f"has {len(text):,} characters; {MAX_NAME} is the most")
        control = _CONTROL.search(text)
        if control:
            raise fault(field, f"has a control character (U+{ord(control.group()):04X}) in it; leave it out")
    for n, sandbox_id in enumerate(spec.input_sandboxes):
        if not 1 <= sandbox_id < 2**63:
            raise fault(f"input_sandboxes[{n}]", f"is {sandbox_id}, which is no id")
    _check_machine(spec)
    _check_names(spec)
    _check_characters(spec)
    _check_paths(spec)


def is_plain(text: str) -> bool:
    """Whether nothing can be wrong with this text, wherever it may stand for itself, and nothing in it is replaced."""
    return text.isascii() and "\x00" not in text and "{" not in text


def is_plain_name(text: str) -> bool:
    return len(text) <= MAX_NAME and text.isascii() and text.isprintable()


def _check_characters(spec: JobSpec) -> None:
    whole = joined(spec)
    if whole.isascii() and "\x00" not in whole:
        return
    for field, text in strings_of(spec):
        if "\x00" in text:
            raise fault(field, "has a NUL character (U+0000) in it; leave it out")
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise fault(field, "is not text: it has half of a surrogate pair in it; leave it out")


def _lines(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Texts that are shown in lists, or are one line by their nature."""
    yield "executable", spec.executable
    yield "name", spec.name
    yield "job_group", spec.job_group
    yield "job_type", spec.job_type
    yield "gpu_model", spec.gpu_model
    yield "container_image", spec.container_image
    yield "input_query", spec.input_query


def _check_machine(spec: JobSpec) -> None:
    if not spec.job_type.strip():
        raise fault("job_type", "is empty; leave it out, or name a type such as user")
    if spec.platform and not _PLATFORM.fullmatch(spec.platform):
        raise fault("platform", f"{shown(spec.platform)} is not what `uname -m` says of a machine, such as x86_64")
    image = spec.container_image
    if not image:
        return
    if image.startswith("-") or image.split() != [image]:
        raise fault("container_image", f"{shown(image)} is neither an image of a registry nor a path")
    if _URL_PASSWORD.match(image):
        raise fault("container_image", "has a user or a password in its address; leave them out")
    if len(image) > 1024:
        raise fault("container_image", f"has {len(image):,} characters; 1,024 is the most")


def _check_names(spec: JobSpec) -> None:
    for name in spec.environment:
        if not _WORD.fullmatch(name):
            problem = "is not a name for a variable; use letters, digits and _, and no digit first"
            raise fault(f"environment.{shown(name)}", problem)
    for field, words in (
        ("sites", spec.sites),
        ("banned_sites", spec.banned_sites),
        ("computing_elements", spec.computing_elements),
        ("tags", spec.tags),
        ("labels", spec.labels),
    ):
        if len(words) > MAX_WORDS:
            raise fault(field, f"has {len(words):,} names; {MAX_WORDS:,} are the most")
        for word in words:
            if not word.strip() or len(word) > MAX_NAME or _CONTROL.search(word):
                raise fault(field, f"{shown(word)} is not a name")
    both = [site for site in spec.sites if site in spec.banned_sites]
    if both:
        raise fault("banned_sites", f"{shown(both[0])} is in `sites` too; take it out of one of them")


def _check_paths(spec: JobSpec) -> None:
    for n, lfn in enumerate(spec.input_data):
        if not lfn.startswith(("/", "{")):
            raise fault(f"input_data[{n}]", f"{shown(lfn)} is no LFN; it begins with / and the VO's name")
    for field, path in _inside(spec):
        if not path or path.startswith("/") or ".." in path.split("/"):
            raise fault(field, f"{shown(path)} leads out of the job's directory; name a file inside it")
    for field, path in (("stdout", spec.stdout), ("stderr", spec.stderr)):
        if path and (_PATTERN.search(path) or path.endswith("/")):
            raise fault(field, f"{shown(path)} is not the name of one file")
    if spec.stdout and spec.stdout == spec.stderr:
        raise fault("stderr", f"{shown(spec.stderr)} is the file of stdout already; name another")


def _inside(spec: JobSpec) -> Iterator[tuple[str, str]]:
    yield from ((f"output_sandbox[{n}]", pattern) for n, pattern in enumerate(spec.output_sandbox))
    yield from ((f"output_data[{n}].path", output.path) for n, output in enumerate(spec.output_data))
    yield from ((field, path) for field, path in (("stdout", spec.stdout), ("stderr", spec.stderr)) if path)


def parameters(spec: JobSpec) -> None:
    first = ""
    for name, values in spec.parameters.items():
        field = f"parameters.{shown(name)}"
        if not _WORD.fullmatch(name):
            raise fault(field, "is not a name for a parameter; use letters, digits and _, and no digit first")
        if name in BUILT_IN:
            raise fault(field, f"has the name of a built-in; choose another than {', '.join(BUILT_IN)}")
        if not values:
            raise fault(field, "is an empty list, which would make no job at all; give one value per job")
        first = first or name
        if len(values) != len(spec.parameters[first]):
            raise fault(
                field,
                f"has {len(values):,} values where parameters.{first} has {len(spec.parameters[first]):,}; "
                "all lists must be of one length, one value per job",
            )
        for n, value in enumerate(values):
            _check_value(value, field, n)
    if size_of(spec) > MAX_JOBS:
        raise fault("parameters", f"makes {size_of(spec):,} jobs; {MAX_JOBS:,} are the most in one description")


def _check_value(value: Any, field: str, n: int) -> None:
    if type(value) is int or type(value) is bool or (type(value) is str and value.isprintable()):
        return  # Most of a million values.
    if not _is_scalar(value) and not (isinstance(value, list) and all(map(_is_scalar, value))):
        raise fault(f"{field}[{n}]", "is neither text, a number, true, false nor a list of these")
    for item in value if isinstance(value, list) else (value,):
        if type(item) is str and ("\x00" in item or any("\ud800" <= character <= "\udfff" for character in item)):
            raise fault(f"{field}[{n}]", "has a NUL character (U+0000) or half of a surrogate pair in it; leave it out")
        if type(item) is float and not abs(item) < float("inf"):
            raise fault(f"{field}[{n}]", f"is {item}, which JSON cannot say; write it as text, or another number")


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def placeholders(spec: JobSpec) -> None:
    if "{" not in joined(spec):
        return
    known = {*spec.parameters, *BUILT_IN}
    lists: set[str] | None = None
    for field, text in strings_of(spec):
        if "{" not in text:
            continue
        for match in PLACEHOLDER.finditer(text):
            name = match.group(2)
            if name is None:
                continue
            if name not in known:
                raise fault(field, f"there is no parameter {{{name}}}{_near(name, known)}", placeholder=name)
            if lists is None:
                lists = {each for each, values in spec.parameters.items() if any(type(v) is list for v in values)}
            if name in lists and not (text == match.group() and is_element(field)):
                raise fault(
                    field, f"parameter {name} has lists as values; these can only be a whole element: {{{name}}}"
                )


def _near(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    hint = f"; did you mean {{{near}}}?" if near else f"; there is {', '.join(sorted(known))}."
    return f"{hint} The text itself is written {{{{{name}}}}}"
