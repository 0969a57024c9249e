"""The catalog's console: words, paths, patterns, completion, scripts, and a conversation on a terminal."""

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import click
import pytest

from spinor.catalog.cli import file
from spinor.catalog.cli.shell import arguments, editing
from spinor.catalog.cli.shell.arguments import Kind, defaults, kinds, take_apart, wanted_by
from spinor.catalog.cli.shell.console import Console
from spinor.catalog.cli.shell.language import SpinorVerbs
from spinor.catalog.cli.shell.namespace import Namespace
from spinor.catalog.cli.shell.paths import expand, resolve
from spinor.catalog.cli.shell.prepared import Here, words_of
from spinor.catalog.cli.shell.words import quoted, split_line, unfinished, word_of
from spinor.errors import BadInput, NotFound, SpinorError, Unavailable

from .direct import Commands
from .workbench import World, check_sums, register


@dataclass(frozen=True)
class Thing:
    name: str
    lfn: str
    kind: str = "file"


TREE = {
    "/astro": ["d1/", "d2/", "d3[x]/", "top.dat"],
    "/astro/d1": ["a.dat", "b.dat", "c.txt", "my file", "sub/", "we*ird"],
    "/astro/d1/sub": ["deep.dat"],
    "/astro/d2": ["a.dat"],
    "/astro/d3[x]": ["z.dat"],
}


def listing(directory: str, glob: str = "") -> Iterable[Thing]:
    """A directory as the server lists it: everything, whatever the glob, so that the shell must choose itself."""
    if directory not in TREE:
        raise NotFound(f"There is no directory {directory}.")
    for name in TREE[directory]:
        plain = name.rstrip("/")
        yield Thing(plain, f"{directory}/{plain}", "directory" if name.endswith("/") else "file")


HERE = Here("/astro/d1", "/astro", listing)


class Names:
    """What the shell asks its server for, to complete."""

    top = "/astro"

    def first_entries(self, directory: str, beginning: str) -> list[Thing]:
        if directory == "/astro/broken":
            raise Unavailable
        return [entry for entry in listing(directory) if entry.name.startswith(beginning)]

    def storage_elements(self) -> list[str]:
        return ["disk", "tape"]

    def keys(self) -> list[str]:
        return ["run", "size", "my key"]

    def users(self) -> list[str]:
        return ["ada", "alan"]

    def groups(self) -> list[str]:
        return ["astro_prod"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        ("  # only a comment", []),
        ("ls -l  a # and why", [["ls", "-l", "a"]]),
        ("ls a#b", [["ls", "a#b"]]),
        ("cd x; ls;;pwd ;", [["cd", "x"], ["ls"], ["pwd"]]),
        ("stat 'a b' \"c;d\" e\\ f", [["stat", "a b", "c;d", "e f"]]),
        ('stat a\'b c\'d "x\\"y" \'\' ""', [["stat", "ab cd", 'x"y', "", ""]]),
        ("find . run > 5", [["find", ".", "run", ">", "5"]]),
        ("stat d\N{LATIN SMALL LETTER E WITH ACUTE}\N{SNOWMAN}", [["stat", "dé\N{SNOWMAN}"]]),
    ],
)
def test_a_line_is_words_as_in_a_posix_shell(line: str, expected: list[list[str]]) -> None:
    assert [[word.text for word in words] for words in split_line(line)] == expected


@pytest.mark.parametrize("line", ["ls 'open", 'ls "open', "ls x\\"])
def test_what_does_not_end_is_told(line: str) -> None:
    with pytest.raises(BadInput):
        split_line(line)


def test_wildcards_between_quotes_are_themselves() -> None:
    words = split_line("ls *.dat '*'.dat a\\*b we[i]rd x[ \"[ab]\"?")[0][1:]
    assert [word.is_pattern for word in words] == [True, False, False, True, False, True]
    assert [word.pattern for word in words][-1] == "[[]ab]?"


@pytest.mark.parametrize("text", ["a", "my file", "we*ird", "it's", 'say "x"', "a;b", "#x", "back\\slash", "[x]", ""])
def test_a_quoted_text_reads_back(text: str) -> None:
    (words,) = split_line("stat " + quoted(text))
    assert words[1].text == text
    assert not words[1].is_pattern


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("x", "/astro/d1/x"), (".", "/astro/d1"), ("..", "/astro"), ("../d2/./y", "/astro/d2/y"),
        ("x/", "/astro/d1/x/"), ("/astro/e//f", "/astro/e/f"), ("//astro", "/astro"), ("/", "/"),
        ("../../..", "/astro"), ("../../bio", "/astro"), ("/bio/x", "/bio/x"), ("/astro/../bio", "/bio"),
    ],
)  # fmt: skip
def test_paths_are_resolved(typed: str, path: str) -> None:
    assert resolve(typed, "/astro/d1", "/astro") == path


@pytest.mark.parametrize(
    ("typed", "paths"),
    [
        ("*.dat", ["/astro/d1/a.dat", "/astro/d1/b.dat"]),
        ("[bc].*", ["/astro/d1/b.dat", "/astro/d1/c.txt"]),
        ("[!a]*.dat", ["/astro/d1/b.dat"]),
        ("../*/a.dat", ["/astro/d1/a.dat", "/astro/d2/a.dat"]),
        ("/astro/d?/*.dat", ["/astro/d1/a.dat", "/astro/d1/b.dat", "/astro/d2/a.dat"]),
        ("../d3\\[x\\]/*", ["/astro/d3[x]/z.dat"]),
        ("we\\*ird", ["/astro/d1/we*ird"]),
        ("we'*'*", ["/astro/d1/we*ird"]),
        ("*/", ["/astro/d1/sub"]),
        ("*/*", ["/astro/d1/sub/deep.dat"]),
        ("m?\\ file", ["/astro/d1/my file"]),
        ("nothing", ["/astro/d1/nothing"]),
    ],
)
def test_patterns_are_expanded_on_the_servers_lists(typed: str, paths: list[str]) -> None:
    assert expand(word_of(typed), "/astro/d1", "/astro", listing) == paths


@pytest.mark.parametrize("typed", ["*.fits", "a.dat/*", "nowhere/*", "../*/nope"])
def test_a_pattern_that_is_like_nothing_is_an_error(typed: str) -> None:
    with pytest.raises(NotFound, match="Nothing is like"):
        expand(word_of(typed), "/astro/d1", "/astro", listing)


def test_a_current_directory_with_wildcards_in_its_name_is_taken_literally() -> None:
    assert expand(word_of("*"), "/astro/d3[x]", "/astro", listing) == ["/astro/d3[x]/z.dat"]


def test_a_closed_directory_is_no_empty_one() -> None:
    def closed(_directory: str, _glob: str) -> list[Thing]:
        raise SpinorError("closed")

    with pytest.raises(SpinorError, match="closed"):
        expand(word_of("*"), "/astro", "/astro", closed)


def prepared(line: str) -> list[str]:
    (words,) = split_line(line)
    given = take_apart(file, words)
    for kind, text in defaults(wanted_by(file, given), len(given.arguments)):
        given.arguments.append((kind, word_of(text)))
    return words_of(given, HERE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ls", "ls /astro/d1"),
        ("ls -l ..", "ls -l /astro"),
        ("ls *.dat", "ls /astro/d1/*.dat"),  # The server chooses.
        ("ls [ab].dat", "ls /astro/d1/a.dat /astro/d1/b.dat"),
        ("ls /", "ls /astro"),
        ("stat *.dat ../top.dat --json", "stat --json /astro/d1/a.dat /astro/d1/b.dat /astro/top.dat"),
        ("rm -r sub/", "rm -r /astro/d1/sub"),
        ("rm -", "rm -"),
        ("rm -r /", "rm -r /"),
        ("mv *.dat sub", "mv /astro/d1/a.dat /astro/d1/b.dat /astro/d1/sub"),
        ("mv a.dat ../new*/", "mv /astro/d1/a.dat /astro/new*/"),
        ("mkdir -- a b/", "mkdir /astro/d1/a /astro/d1/b/"),
        ("get a.dat", "get /astro/d1/a.dat ."),
        ("get *.dat", "get /astro/d1/a.dat /astro/d1/b.dat ."),
        ("get a.dat here/", "get /astro/d1/a.dat here/"),
        ("put one two x/ --se disk", "put --se disk one two /astro/d1/x/"),
        ("put one x", "put one /astro/d1/x"),
        ("usage", "usage /astro/d1"),
        ("register new --se=disk --size 3 --pfn p", "register --se disk --size 3 --pfn p /astro/d1/new"),
        ("replica add a.dat b.dat --se tape", "replica add --se tape /astro/d1/a.dat /astro/d1/b.dat"),
        ("set-status suspect a.dat", "set-status suspect /astro/d1/a.dat"),
        ("metadata set . sub run=5 kind=a/b", "metadata set /astro/d1 /astro/d1/sub run=5 kind=a/b"),
        ("metadata unset a.dat run ./b.dat", "metadata unset /astro/d1/a.dat run /astro/d1/b.dat"),
        ("metadata show", "metadata show /astro/d1"),
        ("metadata declare run=integer", "metadata declare run=integer"),
        ("nonsense a", "nonsense a"),
    ],
)
def test_arguments_become_what_the_command_line_takes(line: str, expected: str) -> None:
    assert prepared(line) == expected.split()


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("find . run > 5 and name like *.dat", "run > 5 and name like *.dat"),
        ("find . 'run > 5 and size < 1GB'", "run > 5 and size < 1GB"),
        ("find . 'run > 5' 'and size < 1GB'", "run > 5 and size < 1GB"),
        ("find . name = 'my file' --limit 3", "name = 'my file'"),
        ("find . name='my file'", "name='my file'"),
        ("find . 'my key' = 5", "'my key' = 5"),
        ("find . 'run>5'", "run>5"),
        ("find . '{\"run\": 5}'", '{"run": 5}'),
        ("find . FileName=*.root run>=5 CreationDate>2024-01-01", "FileName=*.root run>=5 CreationDate>2024-01-01"),
        ("find . created > -1d --sort=-size", "created > -1d"),
        ("find . (site=a or site in ('b c', d))", "(site=a or site in ('b c', d))"),
    ],
)
def test_a_query_may_be_quoted_or_not(line: str, query: str) -> None:
    words = prepared(line)
    assert " ".join(words[words.index("/astro/d1") + 1 :]) == query


def test_local_patterns_are_expanded_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.dat", "a.dat", "c.txt"):
        Path(name).touch()
    assert prepared("put *.dat x/") == ["put", "a.dat", "b.dat", "/astro/d1/x/"]
    with pytest.raises(NotFound, match="on this machine"):
        prepared("put *.fits x/")


def test_what_repeats_leaves_the_last_words_to_what_follows() -> None:
    wanted = [arguments.Argument(Kind.LFN, repeats=True), arguments.Argument(Kind.LOCAL, default=".")]
    assert [kinds(wanted, count) for count in range(4)] == [
        [], [Kind.LFN], [Kind.LFN, Kind.LOCAL], [Kind.LFN, Kind.LFN, Kind.LOCAL]
    ]  # fmt: skip


def test_every_verb_can_be_taken_apart() -> None:
    """A verb that is new must not break the shell: its arguments are read from its definition."""
    for name in file.list_commands(click.Context(file)):
        command = file.get_command(click.Context(file), name)
        subcommands = command.list_commands(click.Context(command)) if isinstance(command, click.Group) else [""]
        for sub_name in subcommands:
            (words,) = split_line(f"{name} {sub_name} x --json y")
            assert take_apart(file, words).names == f"{name} {sub_name}".split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stat ", ["a.dat ", "b.dat ", "c.txt ", r"my\ file ", "sub/", r"we\*ird "]),
        ("stat a", ["a.dat "]),
        ("stat a.dat b", ["b.dat "]),
        ("stat ../d2/", ["a.dat "]),
        ("stat ..", ["../"]),
        ("stat /astro/d", ["d1/", "d2/", r"d3\[x\]/"]),
        ("stat my\\ f", ["file "]),
        ("stat 'my f", ["file' "]),
        ('stat "my f', ['file" ']),
        ("stat nope", []),
        ("pwd; stat c", ["c.txt "]),
        ("stat ../broken/", []),
        ("put --se d", ["disk "]),
        ("put --se=t", ["--se=tape "]),
        ("ls .. --s", []),
        ("put x ./ --s", ["--se "]),
        ("find . se = x --sort=-r", []),
        ("find . --sort r", ["run "]),
        ("find . r", ["run "]),
        ("find . m", [r"my\ key "]),
        ("metadata set a.dat r", ["run="]),
        ("metadata s", ["set ", "show "]),
        ("stat --j", ["--json "]),
        ("stat a.dat # x", []),
        ("l", ["lcd ", "lls ", "lpwd ", "ls "]),
        ("help set-s", ["set-status "]),
        ("help metadata se", ["set "]),
        ("cd ../d1/s", ["sub/"]),
    ],
)
def test_completion(line: str, expected: list[str]) -> None:
    console = Console(SpinorVerbs(), cast(Namespace, Names()), "/astro/d1")
    begin = max(line.rfind(mark) for mark in " /;") + 1
    assert console.complete(line, begin) == expected


def test_the_word_under_the_cursor() -> None:
    for line, before, text, start in [
        ("ls a b", ["ls", "a"], "b", 5), ("ls a ", ["ls", "a"], "", 5), ("x; ls 'a b", ["ls"], "a b", 6),
        ("ls a\\", ["ls"], "a", 3), ("", [], "", 0), ("ls x'a b", ["ls"], "xa b", 3),
    ]:  # fmt: skip
        words, word = unfinished(line)
        assert ([item.text for item in words], word.text, word.start) == (before, text, start), line


def test_sessions_that_run_at_once_keep_each_others_history(tmp_path: Path) -> None:
    readline = pytest.importorskip("readline")
    history = tmp_path / "new" / "history"
    for lines in (["ls"], ["pwd", "cd x"]):
        readline.clear_history()
        editor = editing.Editor(history, lambda _line, _begin: [])
        for line in lines:
            readline.add_history(line)
        editor.close()
    assert [line for line in history.read_text().splitlines() if not line.startswith("_HiStOrY")] == [
        "ls",
        "pwd",
        "cd x",
    ]
    assert history.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(world.db, monkeypatch)


def write(directory: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        (directory / name).write_text(text)


SESSION = """
# What a day looks like.
mkdir d1 d2; cd d1
put one.dat 'my file' ./ --se local-se -q
pwd
ls
cd ../d2
mv /astro/d1/*.dat .
ls; ls ../d*
cd -
pwd --json
stat my\\ file -q
metadata set . run=5
find .. run = 5 -q
usage ../d1 ../d2 -q
cd ..
rm -r d[12] -q
ls
"""


async def test_a_session(
    world: World, spinor: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/first")
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"one.dat": "1", "my file": "2", "commands": SESSION})
    assert await spinor(world.ada, "file", "shell", "-f", "commands") == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "/astro/d1/one.dat", "/astro/d1/my file", "/astro/d1", "my file", "one.dat", "one.dat",
        "d1/", "d2/", '{"path":"/astro/d1"}', "/astro/d1/my file",
        "/astro/d1/my file", "/astro/d1", "/astro/d2", "/astro/d1", "/astro/d2", "first",
    ]  # fmt: skip
    await check_sums(world.db)


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (["-c", "pwd; ls nowhere; pwd"], 3, ["/astro"]),
        (["-k", "-c", "pwd; ls nowhere; bogus; pwd"], 2, ["/astro", "/astro"]),
        (["-c", "pwd; exit 7; pwd"], 7, ["/astro"]),
        (["-k", "-c", "ls nowhere\nexit"], 3, []),
        (["-d", "d", "-c", "pwd"], 0, ["/astro/d"]),
        (["-d", "x", "-c", "pwd"], 3, []),
    ],
)
async def test_the_exit_code_is_that_of_the_last_failure(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str], words: list[str], code: int, out: list[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/f")
    assert await spinor(world.ada, "file", "shell", *words) == code
    assert capsys.readouterr().out.splitlines() == out


async def test_commands_of_dirac_that_have_another_name_here_are_understood(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/f")
    assert await spinor(world.ada, "file", "shell", "-c", "meta index -d run int; meta set d run 7; find . run>=5") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "/astro/d/f"
    assert await spinor(world.ada, "file", "shell", "-c", "help rmdir; rmdir -rf d; exists d/f") == 3
    assert "Usage: rmdir" in capsys.readouterr().out


async def test_errors_are_one_line_with_the_remedy_and_where_they_are(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(world.db, world.ada, "/astro/d/f")
    wrong = {
        "sta x": "did you mean stat?",
        "ls --nope": "See `help ls`.",
        "mv a": "Missing argument 'SOURCES...'. See `help mv`.",
        "rm nothing*": "Nothing is like nothing*",
        "cd d/f": "/astro/d/f is a file",
        "ls 'open": "not closed",
        "lls /nonexistent": "No such file or directory",
        "source /nonexistent": "No such file or directory",
        "stat -": "which is where these commands come from",
        "cd a b": "cd takes at most 1 argument",
        "shell": "There is no command shell",
        "exit x": "no exit status",
    }
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(wrong) + "\n"))
    assert await spinor(world.ada, "file", "shell", "-k") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(wrong)
    for number, (line, (command, part)) in enumerate(zip(said, wrong.items(), strict=True), 1):
        assert line.startswith(f"stdin:{number}: "), command
        assert part in line, command


async def test_a_script_may_run_another_but_not_itself(
    world: World, spinor: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"outer": "source inner\npwd\n", "inner": "lpwd --json\n", "loop": "source loop\n"})
    assert await spinor(world.ada, "file", "shell", "-f", "outer") == 0
    assert capsys.readouterr().out.splitlines() == [
        json.dumps({"local": str(tmp_path)}, separators=(",", ":")),
        "/astro",
    ]
    assert await spinor(world.ada, "file", "shell", "-f", "loop") == 3
    assert "loop reads itself" in capsys.readouterr().err


async def test_another_vos_member_stays_in_their_own_tree(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/f")
    assert await spinor(world.bea, "file", "shell", "-k", "-c", "pwd; ls /astro; cd /astro/d; stat /astro/d/*") == 4
    out, err = capsys.readouterr()
    assert out.splitlines() == ["/bio"]
    assert len(err.splitlines()) == 3


async def test_lists_of_several_paths_and_in_other_orders(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/b", size_bytes=1)
    await register(world.db, world.ada, "/astro/d/a", "/astro/e/c", size_bytes=2000)
    for words, expected in [
        (["/astro/d"], ["a", "b"]), (["-t", "/astro/d"], ["a", "b"]), (["-S", "-r", "/astro/d"], ["b", "a"]),
        (["-r", "/astro/d"], ["b", "a"]), (["/astro/d/b"], ["b"]),
        (["/astro/e", "/astro/d/b", "/astro/d/a*"], ["b", "a", "", "/astro/e:", "c"]),
        (["-q", "/astro/e", "/astro/d/b"], ["/astro/d/b", "/astro/e/c"]),
    ]:  # fmt: skip
        assert await spinor(world.ada, "file", "ls", *words) == 0
        assert capsys.readouterr().out.splitlines() == expected, words
    assert await spinor(world.ada, "file", "ls", "-l", "--bytes", "/astro/d/a", "/astro/d/b") == 0
    assert "2000" in capsys.readouterr().out
    assert await spinor(world.ada, "file", "ls", "/astro/d/b", "/astro/nope") == 3
    out, err = capsys.readouterr()
    assert (out, "/astro/nope" in err) == ("b\n", True)


def test_the_shell_is_light_to_start() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from spinor.cli import run; run(['file', 'shell', '-c', 'pwd']);"
        "from spinor.catalog.cli.shell import session, console, language, namespace, editing;"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "SPINOR_CONFIG_DIR": "/nonexistent"},
    )  # fmt: skip
    heavy = {"asyncio", "starlette", "psycopg", "rich", "pyarrow", "numpy", "cryptography", "prompt_toolkit"}
    assert not heavy & set(done.stderr.split("\n")[-2].split())
