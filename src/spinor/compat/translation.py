"""From a line of DIRAC's file catalog console to the lines of Spinor's that do the same.

The commands and their arguments are those that `help` of dirac-dms-filecatalog-cli tells (DIRAC 9.1).
"""

from __future__ import annotations

import ast
import getopt
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

from spinor.catalog.cli.shell.words import Word, word_of
from spinor.errors import SpinorError
from spinor.terminal import printable

Lines = list[list[Word]]
_NOTHING = {"None", "", "''", '""'}
_TYPES = {"int": "integer", "float": "float", "string": "text", "varchar": "text", "date": "timestamp"}
_NO_METASETS = "Spinor has no sets of metadata; `dataset add NAME KEY=VALUE ...` keeps a query under a name."


class NotInSpinor(SpinorError):
    """Spinor has no such thing."""

    status, code = 501, "not-in-spinor"


def line(*words: str | Word | Sequence[Word]) -> list[Word]:
    """A line of Spinor's: own words, and those of the person as they were typed."""
    found: list[Word] = []
    for word in words:
        if isinstance(word, Word):
            found.append(word)
        elif isinstance(word, str):
            found.append(word_of(shlex.quote(word)))
        else:
            found.extend(word)
    return found


def _counted(words: Sequence[Word], least: int, most: int | None, usage: str) -> list[Word]:
    if len(words) < least or (most is not None and len(words) > most):
        raise click.UsageError(f"Usage: {usage}.")
    return list(words)


def _register(words: Sequence[Word]) -> Lines:
    what = words[0].text if words else ""
    if what == "file":
        given = _counted(words[1:], 4, 6, "register file LFN PFN SIZE SE GUID CHECKSUM, where PFN, GUID and CHECKSUM "
                         "may be None")  # fmt: skip
        lfn, pfn, size, se, *rest = given
        more = _pfn(pfn)
        if rest and rest[0].text not in _NOTHING:
            more += line("--guid", rest[0])
        if len(rest) > 1 and rest[1].text not in _NOTHING:
            more += line(*_checksum(rest[1].text))
        return [line("register", lfn, "--se", se, "--size", size, more)]
    if what in ("replica", "pfn"):
        lfn, pfn, se = _counted(words[1:], 3, 3, "register replica LFN PFN SE")
        return [line("replica", "add", lfn, "--se", se, _pfn(pfn))]
    raise click.UsageError("Usage: register file LFN PFN SIZE SE GUID CHECKSUM, or register replica LFN PFN SE.")


def _pfn(word: Word) -> list[Word]:
    """DIRAC's without a protocol begin with /; Spinor's are relative to the storage element's root."""
    return [] if word.text in _NOTHING else line("--pfn", word.text.lstrip("/"))


def _checksum(text: str) -> tuple[str, str]:
    text = text.lower().removeprefix("0x").removeprefix("ad:")
    if re.fullmatch("[0-9a-f]{64}", text):
        return "--sha256", text
    if re.fullmatch("[0-9a-f]{1,8}", text):
        return "--adler32", text.zfill(8)  # DIRAC writes some without their leading zeros.
    raise click.UsageError(f"{printable(text)} is no checksum; give an adler32 (8 hex digits), a sha256 (64), or None.")


def _unregister(words: Sequence[Word]) -> Lines:
    usage = "unregister replica LFN SE, unregister file LFN, or unregister dir PATH"
    what = words[0].text if words else ""
    if what == "replica":
        return [_replica_rm(words[1:], usage) + line("--catalog-only")]
    if what == "file":
        return [line("rm", _counted(words[1:], 1, 1, usage), "--catalog-only")]
    if what in ("dir", "directory"):
        return [line("rmdir", _counted(words[1:], 1, 1, usage))]
    raise click.UsageError(f"Usage: {usage}.")


def _add(words: Sequence[Word]) -> Lines:
    lfn, local, se, *guid = _counted(words, 3, 4, "add LFN LOCAL_FILE SE [GUID]")
    more = line("--guid", guid[0]) if guid and guid[0].text not in _NOTHING else []
    return [line("put", local, lfn, "--se", se, more)]


def _get(words: Sequence[Word]) -> Lines:
    lfn, *into = _counted(words, 1, 2, "get LFN [LOCAL_DIRECTORY]")
    return [line("get", lfn, word_of(into[0].typed.rstrip("/") + "/") if into else ".")]


def _replica_rm(words: Sequence[Word], usage: str) -> list[Word]:
    last = [word for word in words if word.text == "--last"]  # Spinor keeps the last replica unless told.
    lfn, se = _counted([word for word in words if word not in last], 2, 2, usage)
    return line("replica", "rm", lfn, "--se", se, last)


def _ancestorset(words: Sequence[Word]) -> Lines:
    return [line("set-ancestors", _counted(words, 2, None, "ancestorset LFN ANCESTOR_LFN..."))]


def _relatives(verb: str, name: str) -> Callable[[Sequence[Word]], Lines]:
    def translate(words: Sequence[Word]) -> Lines:
        lfn, *depth = _counted(words, 1, 2, f"{name} LFN [DEPTH]")
        return [line(verb, lfn, "--depth", depth[0] if depth else "1")]

    return translate


def _ls(words: Sequence[Word]) -> Lines:
    names = ["long", "timeorder", "reverse", "numericid", "sizeorder", "human-readable", "json", "quiet"]
    typed = {word.text: word for word in words}
    try:
        options, rest = getopt.gnu_getopt([word.text for word in words], "ltrnSHq", names)
    except getopt.GetoptError as error:
        raise click.UsageError(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    spelt = {"--long": "-l", "--timeorder": "-t", "--reverse": "-r", "--sizeorder": "-S", "--quiet": "-q"}
    given = [spelt.get(name, name) for name, _ in options]
    kept = [name for name in given if name in ("-l", "-t", "-r", "-S", "-q", "--json")]
    exact = [] if {"-H", "--human-readable"} & set(given) else ["--bytes"]
    return [line("ls", *kept, *exact, [typed[text] for text in rest])]


def _access(verb: str, who: str) -> Callable[[Sequence[Word]], Lines]:
    def translate(words: Sequence[Word]) -> Lines:
        recursive = line("-R") if words and words[0].text == "-R" else []
        return [line(verb, recursive, _counted(words[len(recursive) :], 2, None, f"{verb} [-R] {who} PATH"))]

    return translate


def _meta(words: Sequence[Word]) -> Lines:
    what, rest = (words[0].text, words[1:]) if words else ("", [])
    match what:
        case "index":
            return [_index(rest)]
        case "set":
            path, *pairs = _counted(rest, 3, None, "meta set PATH KEY VALUE [KEY VALUE ...]")
            if len(pairs) % 2:
                raise click.UsageError(f"The key {printable(pairs[-1].text)} has no value.")
            values = [f"{key.text}={value.text}" for key, value in zip(pairs[::2], pairs[1::2], strict=True)]
            return [line("metadata", "set", path, *values)]
        case "get":
            paths = [word for word in rest if word.text != "-e"]
            return [line("metadata", "show", _counted(paths, 0, 1, "meta get [-e] [PATH]"))]
        case "remove" | "rm":
            path, *keys = _counted(rest, 2, None, "meta remove PATH KEY...")
            return [line("metadata", "unset", path, keys)]
        case "show":
            return [line("metadata", "keys")]
        case "tag" | "tags":
            return [_tags(rest)]
        case "metaset":
            raise NotInSpinor(_NO_METASETS)
    raise click.UsageError("Usage: meta index, set, get, remove, tags or show; see `help meta`.")


def _index(words: Sequence[Word]) -> list[Word]:
    rest = [word for word in words if word.text.lower() not in ("-d", "-f")]  # A key is for both here.
    if rest and rest[0].text == "-r":
        return line("metadata", "undeclare", _counted(rest[1:], 1, 1, "meta index -r KEY"))
    name, kind = _counted(rest, 2, 2, "meta index [-d|-f] KEY TYPE")
    if kind.text.lower() == "metaset":
        raise NotInSpinor(_NO_METASETS)
    beginning = (re.match("[a-z]+", kind.text.lower()) or [""])[0]
    for known, ours in _TYPES.items():
        if beginning == known or (known == "int" and beginning.startswith("int")):
            return line("metadata", "declare", f"{name.text}={ours}")
    raise click.UsageError(f"{printable(kind.text)} is no type; types are int, float, string, varchar(n) and date.")


def _tags(words: Sequence[Word]) -> list[Word]:
    path, key, *rest = _counted(words, 2, None, "meta tags PATH KEY [where KEY=VALUE ...]")
    if rest and rest[0].text.lower() != "where":
        raise click.UsageError("After KEY comes `where`, and then KEY=VALUE words.")
    return line("find", path, "--facet", key, *where(rest[1:]))


def where(words: Sequence[Word]) -> list[str]:
    """The condition of a search, from DIRAC's words or from a dictionary as Python writes it. Raises BadQuery."""
    from spinor.catalog.dirac_find import parse_dirac
    from spinor.search import BadQuery

    typed = " ".join(word.typed for word in words)
    if not typed.startswith("{"):
        text = str(parse_dirac([word.typed for word in words]))
        return ["--where", text] if text else []
    try:
        query = ast.literal_eval(typed)
        words_of = [word for key, value in query.items() for word in _conditions(str(key), value)]
    except (ValueError, SyntaxError, AttributeError, MemoryError, RecursionError):
        raise BadQuery(f"{printable(typed)} is no dictionary of keys and values") from None
    text = str(parse_dirac(words_of))
    return ["--where", text] if text else []


def _conditions(key: str, value: Any) -> list[str]:
    """{'run': 5}, {'run': [1, 2]}, {'run': {'>=': 5, '<': 9}}, {'site': {'in': [...]}}, {'site': {'nin': [...]}}."""
    if isinstance(value, dict):
        return [word for operator, operand in value.items() for word in _condition(key, str(operator), operand)]
    return _condition(key, "in" if isinstance(value, list | tuple) else "=", value)


def _condition(key: str, operator: str, value: Any) -> list[str]:
    if operator in ("in", "nin"):
        sign, values = ("=" if operator == "in" else "!="), value if isinstance(value, list | tuple) else [value]
        return [f"{key}{sign}{item}" for item in values]
    if operator not in ("=", "!=", "<", "<=", ">", ">="):
        raise ValueError(operator)
    return [f"{key}{operator}{value}"]


def _dataset(words: Sequence[Word]) -> Lines:
    what, rest = (words[0].text, list(words[1:])) if words else ("", [])
    if what == "add":
        name, *query = _counted(rest, 1, None, "dataset add NAME KEY=VALUE ...")
        return [line("dataset", "create", name, "/", *where(query)[1:])]
    if what == "annotate":
        name, *said = _counted(rest, 2, None, "dataset annotate NAME TEXT")
        return [line("dataset", "annotate", name, " ".join(word.text for word in said))]
    if what == "show":
        names = [word for word in rest if word.text not in ("-l", "*")]
        long = line("-l") if len(names) < len(rest) and any(word.text == "-l" for word in rest) else []
        return [line("dataset", "show", long, names)] if names else [line("dataset", "list")]
    if what == "status":
        return [line("dataset", "show", "-l", _counted(rest, 1, 1, "dataset status NAME"))]
    if what in ("files", "rm", "check", "update", "freeze", "release"):
        return [line("dataset", what, _counted(rest, 1, 1, f"dataset {what} NAME"))]
    raise click.UsageError("Usage: dataset add, annotate, show, status, files, rm, check, update, freeze or release.")


def _one(*ours: str, usage: str) -> Callable[[Sequence[Word]], Lines]:
    return lambda words: [line(*ours, _counted(words, 1, 1, usage))]


TRANSLATIONS: dict[str, Callable[[Sequence[Word]], Lines]] = {
    "register": _register,
    "unregister": _unregister,
    "add": _add,
    "get": _get,
    "rmreplica": lambda words: [_replica_rm(words, "rmreplica LFN SE [--last]")],
    "replicas": _one("replicas", usage="replicas LFN"),
    "ancestorset": _ancestorset,
    "ancestor": _relatives("ancestors", "ancestor"),
    "descendent": _relatives("descendants", "descendent"),
    "ls": _ls,
    "mkdir": _one("mkdir", usage="mkdir PATH"),
    "chown": _access("chown", "USER"),
    "chgrp": _access("chgrp", "GROUP"),
    "chmod": _access("chmod", "MODE"),
    "meta": _meta,
    "dataset": _dataset,
}
