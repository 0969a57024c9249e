"""What each argument of a verb is (a name in the catalog, a local file, a query ...), so that it can be resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import click

from spinor.catalog.cli.shell.words import Word, word_of


class Kind(StrEnum):
    """What an argument can be."""

    LFN = "lfn"  # A path in the catalog that is there: relative ones are resolved, patterns expanded.
    NAME = "name"  # A path in the catalog that may be new: resolved, and its slash at the end kept.
    LOCAL = "local"  # A path on this machine.
    SE = "se"
    KEY = "key"  # A metadata key, or a field that every file has.
    PAIR = "pair"  # KEY=VALUE.
    QUERY = "query"
    USER = "user"
    GROUP = "group"
    LFN_OR_PAIR = "lfn-or-pair"
    LFN_OR_KEY = "lfn-or-key"
    WORD = "word"


# verb -> its arguments; `...` is one that repeats, and `=` tells what stands for one that was not given. A verb that is
# not here is read from its click arguments.
_ARGUMENTS = {
    "put": "local... name",
    "get": "lfn... local=.",
    "ls": "lfn...=.",
    "usage": "lfn...=.",
    "mv": "lfn... name",
    "mkdir": "name...",
    "find": "lfn query...",
    "register": "name",
    "fsck": "lfn",
    "register-directory": "local name",
    "metadata show": "lfn...=.",
    "metadata set": "lfn lfn-or-pair...",
    "metadata unset": "lfn lfn-or-key...",
    "dataset create": "word lfn query...",
    "chown": "user lfn...",
    "chgrp": "group lfn...",
    "chmod": "word lfn...",
    "setfacl": "lfn...",
    "getfacl": "lfn...=.",
}
_OPTIONS = {
    "--se": Kind.SE,
    "--to": Kind.SE,
    "--path": Kind.LFN,
    "--below": Kind.LFN,
    "--directory": Kind.LFN,
    "--from": Kind.LOCAL,
    "--adopt-below": Kind.NAME,
    "--report": Kind.LOCAL,
    "--dump": Kind.LOCAL,
    "--repair": Kind.LOCAL,
    "--undo": Kind.LOCAL,
    "--work": Kind.LOCAL,
    "--output": Kind.LOCAL,
    "--sort": Kind.KEY,
    "--facet": Kind.KEY,
    "--fields": Kind.KEY,
    "--owner": Kind.USER,
    "--user": Kind.USER,
    "--group": Kind.GROUP,
}
_OPTIONS_OF = {"operation rehost": {"--from": Kind.SE}}  # Where an option means something else than elsewhere.
_CONDITION = re.compile(r"[=<>({]|\b(not|like|in|exists|missing)\b", re.IGNORECASE)
_OPERATOR_END = re.compile(r"([=<>,(]|\b(like|in))$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Argument:
    kind: Kind
    repeats: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """A command line taken apart: the verb's names, its options as they go, its arguments with their kinds."""

    names: list[str]
    options: list[tuple[Kind | None, Word]]  # The values have a kind; the options themselves none.
    arguments: list[tuple[Kind, Word]]
    expected: Kind | None = None  # Of the word that would come next; None: an option or a value of no known kind.


def arguments_of(names: Sequence[str], command: click.Command) -> list[Argument]:
    """What the verb takes, in order."""
    text = _ARGUMENTS.get(" ".join(names))
    if text is not None:
        return [_argument(word) for word in text.split()]
    found = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            found.append(Argument(_kind_called(parameter.name or ""), repeats=parameter.nargs == -1))
    return found


def _argument(text: str) -> Argument:
    text, mark, default = text.partition("=")
    return Argument(Kind(text.removesuffix("...")), text.endswith("..."), default if mark else None)


def _kind_called(name: str) -> Kind:
    if re.search("lfn|path|ancestor|director", name):
        return Kind.LFN
    if name in ("table", "manifest", "tree", "local"):
        return Kind.LOCAL
    return next((kind for kind in (Kind.SE, Kind.KEY, Kind.USER, Kind.GROUP) if name.rstrip("s") == kind), Kind.WORD)


def kinds(arguments: Sequence[Argument], count: int) -> list[Kind]:
    """The kind of each of `count` words: what is after the repeated argument takes the last words."""
    spread = next((number for number, argument in enumerate(arguments) if argument.repeats), len(arguments))
    front, rest = arguments[:spread], arguments[spread:]
    back = list(rest[1:])
    while back and back[-1].default is not None and count - len(front) <= len(back):
        back.pop()  # The one that repeats comes first.
    between = max(count - len(front) - len(back), 0)
    repeated = [rest[0].kind] * between if rest else [Kind.WORD] * between
    found = [a.kind for a in front] + repeated + [a.kind for a in back]
    return found[:count]


def _next_kind(arguments: Sequence[Argument], count: int) -> Kind | None:
    """What would most likely come after `count` words."""
    if not arguments:
        return None
    if count == 0:
        return arguments[0].kind
    if count < len(arguments):
        return arguments[count].kind
    return arguments[-1].kind if any(argument.repeats for argument in arguments) else None


def defaults(arguments: Sequence[Argument], count: int) -> list[tuple[Kind, str]]:
    """What stands for the arguments that were not given."""
    missing = list(arguments)[max(count, 0) :] if count < len(arguments) else []
    return [(argument.kind, argument.default) for argument in missing if argument.default is not None]


def take_apart(command: click.Command, words: Sequence[Word]) -> Given:
    """Tell options, their values and arguments apart as click will."""
    names, command, rest = _descend(command, words)
    takes_value = _value_options(names, command)
    wanted = arguments_of(names, command)
    free = any(argument.kind is Kind.QUERY for argument in wanted) or _takes_unknown_options(command)
    options: list[tuple[Kind | None, Word]] = []
    positional: list[Word] = []
    pending: Kind | None = None
    only_arguments = False
    for word in rest:
        if pending is not None:
            options.append((pending, word))
            pending = None
        elif only_arguments or not _is_option(word, takes_value, free=free):
            positional.append(word)
        elif word.text == "--":
            only_arguments = True
        else:
            options += _split(word, takes_value)
            pending = _awaited(word.text, takes_value)
    found = list(zip(kinds(wanted, len(positional)), positional, strict=True))
    return Given(names, options, found, pending or _next_kind(wanted, len(positional)))


def _takes_unknown_options(command: click.Command) -> bool:
    """Such as `chmod -w PATH`, whose mode looks like an option."""
    return bool(command.context_settings.get("ignore_unknown_options"))


def wanted_by(command: click.Command, given: Given) -> list[Argument]:
    """What the verb that was taken apart takes."""
    names, found, _ = _descend(command, [word_of(name) for name in given.names])
    return arguments_of(names, found)


def options_of(command: click.Command, words: Sequence[Word]) -> list[str]:
    """What could stand where no argument is expected: subcommands, or long options and those without a long form."""
    _, found, _ = _descend(command, words)
    if isinstance(found, click.Group):
        return [f"{name} " for name in found.list_commands(click.Context(found))]
    spellings = [option.opts for option in found.params if isinstance(option, click.Option)]
    return sorted(f"{max(names, key=len)} " for names in [*spellings, ["--help"]])


def _descend(command: click.Command, words: Sequence[Word]) -> tuple[list[str], click.Command, Sequence[Word]]:
    names: list[str] = []
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0].text)
        if found is None:
            break
        names.append(words[0].text)
        command, words = found, words[1:]
    return names, command, words


def _value_options(names: Sequence[str], command: click.Command) -> Mapping[str, Kind | None]:
    """Each option's spelling, and the kind of its value; None for a flag."""
    found: dict[str, Kind | None] = {"--help": None}
    known = _OPTIONS | _OPTIONS_OF.get(" ".join(names), {})
    for option in command.params:
        if isinstance(option, click.Option):
            spellings = [*option.opts, *option.secondary_opts]
            kind = next((known[name] for name in spellings if name in known), Kind.WORD)
            found |= dict.fromkeys(spellings, None if option.is_flag or option.count else kind)
    return found


def _is_option(word: Word, known: Mapping[str, Kind | None], *, free: bool) -> bool:
    if not word.typed.startswith("-") or word.text == "-":
        return False
    # `created > -1d`: here only the options that are known are options.
    return not free or word.text == "--" or word.text.partition("=")[0] in known or word.text[:2] in known


def _split(word: Word, known: Mapping[str, Kind | None]) -> list[tuple[Kind | None, Word]]:
    """`--path=x` as its two words, so that the value can be resolved."""
    name, mark, _ = word.text.partition("=")
    kind = known.get(name)
    if not mark or kind is None or not word.typed.startswith(name):
        return [(None, word)]
    return [(None, word_of(name)), (kind, word_of(word.typed[len(name) + 1 :] or "''"))]


def _awaited(text: str, known: Mapping[str, Kind | None]) -> Kind | None:
    """The kind of the value that the next word is, if the option takes one from there."""
    if text.startswith("--"):
        return None if "=" in text else known.get(text)
    # Of -lo the last one may take a value; in -oFILE it has it.
    for position, letter in enumerate(text[1:], 2):
        kind = known.get(f"-{letter}")
        if kind is not None:
            return kind if position == len(text) else None
    return None


def query_words(words: Sequence[Word]) -> list[str]:
    """The query as its own language reads it: its quotes stay, but for those around whole conditions."""
    parts: list[str] = []
    for word in words:
        quoted_whole = word.typed[:1] in "'\"" and word.typed[-1:] == word.typed[:1]
        is_condition = len(words) == 1 or _CONDITION.search(word.text) is not None
        is_value = bool(parts) and _OPERATOR_END.search(parts[-1]) is not None
        parts.append(word.text if quoted_whole and is_condition and not is_value else word.typed)
    return parts
