"""DIRAC's console commands that are more than another name: those that look first, and those that say why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from spinor.catalog.cli.shell.builtin import lcd as change_local_directory
from spinor.catalog.cli.shell.builtin import source
from spinor.catalog.cli.shell.language import run_verb
from spinor.catalog.cli.shell.paths import resolve
from spinor.catalog.cli.shell.words import Word
from spinor.compat.translation import NotInSpinor, line, where
from spinor.errors import Conflict, NotFound
from spinor.terminal import cell, printable, say

if TYPE_CHECKING:
    from spinor.catalog.cli.shell.console import Console

Run = Callable[["Console", Sequence[Word]], int]


def _path(console: Console, words: Sequence[Word]) -> str:
    """The path that the one word means; the current directory if there is none."""
    if len(words) > 1:
        raise click.UsageError(f"One path is wanted, not {len(words)}.")
    text = words[0].text if words else "."
    return resolve(text, console.cwd, console.names.top).rstrip("/") or console.names.top


def _kind(console: Console, path: str) -> str:
    """`file` or `directory`. Raises NotFound."""
    from spinor.catalog.replicas.models import Existing

    (found,) = console.names.client.post("/api/files/exists", {"paths": [path]}, list[Existing])
    if found.kind is None:
        raise NotFound(f"There is no {printable(path)} in the catalog; see `ls`.")
    return str(found.kind)


def _usage(console: Console, path: str) -> Any:
    from spinor.catalog.models import Usage

    (found,) = console.names.client.post("/api/files/usage", {"paths": [path]}, list[Usage])
    return found


def remove_directory(console: Console, words: Sequence[Word]) -> int:
    """rmdir [-r] [-f] PATH: take a directory out of the catalog, and leave bytes alone; -r with directories in it,
    -f with files in it."""
    flags = {letter for word in words[1:] if word.text.startswith("-") for letter in word.text[1:]}
    rest = [word for word in words[1:] if not word.text.startswith("-")]
    if len(rest) != 1 or flags - {"r", "f"}:
        raise click.UsageError("Usage: rmdir [-r] [-f] PATH.")
    path = _path(console, rest)
    if _kind(console, path) != "directory":
        raise Conflict(f"{printable(path)} is a file; `rm` removes it.")
    inside = _usage(console, path)
    if inside.files and "f" not in flags:
        raise Conflict(f"{printable(path)} has files in it ({inside.files:,}); `rmdir -rf` unregisters them too.")
    if inside.directories > 1 and "r" not in flags:
        raise Conflict(f"{printable(path)} has directories in it; `rmdir -r` removes them too.")
    if not inside.files:
        return _remove_empty(console, path, "directories" if "r" in flags else "nothing")
    code = run_verb(console, line("rm", "-r", "--catalog-only", path))
    if not code:
        say(f"Unregistered ({inside.files:,} files); their bytes stay where they are. `rm -r` would delete them too.")
    return code


def _remove_empty(console: Console, path: str, contents: str) -> int:
    """The server looks again: a file that came meanwhile keeps the directory."""
    from spinor.catalog.models import Outcome

    body = {"paths": [path], "recursive": True, "contents": contents, "bytes": "keep"}
    for refusal in console.names.client.post("/api/files/remove", body, Outcome).refused:
        raise Conflict(printable(refusal.reason))
    return 0


def size(console: Console, words: Sequence[Word]) -> int:
    """size [-l] [-f] [PATH]: how large a file or a directory with all below it is; -l on each storage element too."""
    from spinor.catalog.models import FileStat
    from spinor.terminal import table

    rest = [word for word in words[1:] if word.text not in ("-l", "-f", "-lf", "-fl")]
    path = _path(console, rest)
    if _kind(console, path) == "file":
        (stat,) = console.names.client.post("/api/files/stat", {"paths": [path]}, list[FileStat])
        click.echo(f"lfn: {printable(path)}\nSize: {stat.size_bytes}")
        return 0
    found = _usage(console, path)
    click.echo(f"directory: {printable(path)}")
    click.echo(f"Logical Size: {found.size_bytes:,} Files: {found.files} Directories: {found.directories - 1}")
    if len(rest) < len(words) - 1 and any("l" in word.text for word in words[1:] if word.text.startswith("-")):
        rows = [[element.se, f"{element.size_bytes:,}", str(element.files)] for element in found.storage_elements]
        for text in table(["StorageElement", "Size", "Replicas"], rows):
            click.echo(text)
    return 0


def guid(console: Console, words: Sequence[Word]) -> int:
    """guid LFN: the file's GUID."""
    from spinor.catalog.models import FileStat

    if len(words) != 2:
        raise click.UsageError("Usage: guid LFN.")
    paths = [_path(console, words[1:])]
    (stat,) = console.names.client.post("/api/files/stat", {"paths": paths}, list[FileStat])
    click.echo(f"GUID: {stat.guid}")
    return 0


def identity(console: Console, _words: Sequence[Word]) -> int:
    """id: who you are."""
    from spinor.identity.models import WhoAmI

    who = console.names.client.get("/api/auth/whoami", WhoAmI)
    click.echo(f"user={who.user} group={who.group} vo={who.vo}")
    return 0


def people(console: Console, words: Sequence[Word]) -> int:
    """user show, group show: names that files can belong to. (Spinor keeps users and groups in its operations data.)"""
    noun, what = words[0].text, words[1].text if len(words) > 1 else ""
    if what == "show":
        for name in console.names.users() if noun == "user" else console.names.groups():
            click.echo(cell(name))
        return 0
    if what in ("add", "delete"):
        raise NotInSpinor(
            f"The catalog has no {noun}s of its own: they are operations data; `spinor config show > operations.yaml`, "
            f"edit `{noun}s` there, then `spinor config apply operations.yaml`."
        )
    raise click.UsageError(f"Usage: {noun} show.")


def stats(console: Console, _words: Sequence[Word]) -> int:
    """stats: how much the catalog of your VO holds."""
    from spinor.terminal import table

    found = _usage(console, console.names.top)
    replicas = sum(element.files for element in found.storage_elements)
    counted = {"Files": found.files, "Replicas": replicas, "Directories": found.directories, "Bytes": found.size_bytes}
    for text in table(["Counter", "Number"], [[name, str(number)] for name, number in counted.items()]):
        click.echo(text)
    return 0


def rebuild(console: Console, _words: Sequence[Word]) -> int:
    """rebuild: count again what directories hold."""
    return run_verb(console, line("operation", "rebuild-usage", console.names.top))


def repair(console: Console, words: Sequence[Word]) -> int:
    """repair: prove that the catalog agrees with itself, and report where it does not."""
    return run_verb(console, line("fsck", "--invariants", words[1:]))


def replicate(_console: Console, _words: Sequence[Word]) -> int:
    """replicate LFN SE [SOURCE_SE]: copy a file to another storage element."""
    raise NotInSpinor(
        "Spinor does not copy between storage elements yet: copy the bytes with your own tool, "
        "then `register replica LFN PFN SE` tells the catalog of them."
    )


def find(console: Console, words: Sequence[Word]) -> int:
    """find [-q] [-D] PATH KEY=VALUE...: files with these metadata; -D their directories."""
    flags = [word.text for word in words[1:3] if word.text in ("-q", "-D")]
    rest = words[1 + len(flags) :]
    if not rest:
        raise click.UsageError("Usage: find [-q] [-D] PATH KEY=VALUE...")
    condition = where(rest[1:])
    if "-q" not in flags:
        say(f"Query: {condition[1] if condition else 'everything'}")
    if "-D" not in flags:
        return run_verb(console, line("find", rest[0], *condition))
    body = {"path": _path(console, rest[:1]), "where": "".join(condition[1:]), "fields": ["path"]}
    seen: set[str] = set()
    for row in console.names.client.pages("/api/files/find", body, dict):
        if row["path"] not in seen:
            seen.add(row["path"])
            click.echo(printable(row["path"]))
    return 0


def local_directory(console: Console, words: Sequence[Word]) -> int:
    """lcd LOCAL_DIRECTORY: change the directory on this machine."""
    from pathlib import Path

    change_local_directory(console, words)
    click.echo(f"Local directory: {Path.cwd()}")
    return 0


def remove(console: Console, words: Sequence[Word]) -> int:
    """rm LFN...: remove files, their names now and their bytes soon; -r directories with all below them too."""
    return run_verb(console, words)


COMMANDS: dict[str, Run] = {
    "find": find,
    "rm": remove,
    "rmdir": remove_directory,
    "size": size,
    "guid": guid,
    "id": identity,
    "user": people,
    "group": people,
    "stats": stats,
    "rebuild": rebuild,
    "repair": repair,
    "replicate": replicate,
    "lcd": local_directory,
    "execfile": source,
}
