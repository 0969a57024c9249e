"""DIRAC's console: each of its commands, as its help tells them, becomes the line of Spinor's that does the same."""

import click
import pytest

from spinor.catalog.cli.shell.words import Word, split_line
from spinor.compat.commands import COMMANDS
from spinor.compat.explanations import EXPLANATIONS
from spinor.compat.language import DiracVerbs
from spinor.compat.translation import TRANSLATIONS, NotInSpinor, where
from spinor.errors import SpinorError

# Those that `help` of DIRAC's console lists (9.1).
DIRACS = [
    "add", "ancestor", "ancestorset", "cd", "chgrp", "chmod", "chown", "dataset", "descendent", "execfile", "exit",
    "find", "get", "group", "guid", "help", "id", "lcd", "ls", "meta", "mkdir", "pwd", "quit", "rebuild", "register",
    "repair", "replicas", "replicate", "rm", "rmdir", "rmreplica", "size", "stats", "unregister", "user",
]  # fmt: skip


def words_of(line: str) -> list[Word]:
    (words,) = split_line(line)
    return words


def translated(line: str) -> list[list[str]]:
    name, *words = words_of(line)
    return [[word.text for word in ours] for ours in TRANSLATIONS[name.text](words)]


def test_every_command_of_diracs_is_there_and_explained() -> None:
    assert sorted(EXPLANATIONS) == DIRACS
    here = {*TRANSLATIONS, *COMMANDS, "cd", "pwd", "help", "exit", "quit"}
    assert set(DIRACS) <= here
    assert set(DIRACS) <= set(DiracVerbs().verbs())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("register file a None 5 SE1 None None", "register a --se SE1 --size 5"),
        (
            "register file /vo/a /vo/a 5 SE1 0191c7a2-5b1e-7c3d-9f00-12345678 ABCD",
            "register /vo/a --se SE1 --size 5 --pfn vo/a --guid 0191c7a2-5b1e-7c3d-9f00-12345678 --adler32 0000abcd",
        ),
        ("register file a '' 5 SE1 None " + "f" * 64, "register a --se SE1 --size 5 --sha256 " + "f" * 64),
        ("register replica a p/q SE2", "replica add a --se SE2 --pfn p/q"),
        ("register pfn a '' SE2", "replica add a --se SE2"),
        ("unregister replica a SE1", "replica rm a --se SE1 --catalog-only"),
        ("unregister file a", "rm a --catalog-only"),
        ("unregister dir d", "rmdir d"),
        ("unregister directory d", "rmdir d"),
        ("add a /tmp/f SE1", "put /tmp/f a --se SE1"),
        ("add a /tmp/f SE1 0191c7a2-5b1e-7c3d-9f00-12345678",
         "put /tmp/f a --se SE1 --guid 0191c7a2-5b1e-7c3d-9f00-12345678"),
        ("get a", "get a ."),
        ("get a /tmp", "get a /tmp/"),
        ("rmreplica a SE1", "replica rm a --se SE1"),
        ("replicas a", "replicas a"),
        ("ancestorset a b ../c", "set-ancestors a b ../c"),
        ("ancestor a", "ancestors a --depth 1"),
        ("ancestor a 4", "ancestors a --depth 4"),
        ("descendent a 2", "descendants a --depth 2"),
        ("ls", "ls --bytes"),
        ("ls -ltr d", "ls -l -t -r --bytes d"),
        ("ls -l -S -H d", "ls -l -S d"),
        ("ls --long --numericid --human-readable", "ls -l"),
        ("mkdir d", "mkdir d"),
        ("chown ada d", "chown ada d"),
        ("chown -R ada d", "chown -R ada d"),
        ("chgrp -R g d", "chgrp -R g d"),
        ("chmod 755 d", "chmod 755 d"),
        ("chmod -R 750 d", "chmod -R 750 d"),
        ("meta index -d run int", "metadata declare run=integer"),
        ("meta index -f q float", "metadata declare q=float"),
        ("meta index site string", "metadata declare site=text"),
        ("meta index site VARCHAR(32)", "metadata declare site=text"),
        ("meta index day date", "metadata declare day=timestamp"),
        ("meta index -r run", "metadata undeclare run"),
        ("meta set . run 5 site a", "metadata set . run=5 site=a"),
        ("meta get", "metadata show"),
        ("meta get -e d", "metadata show d"),
        ("meta remove d run site", "metadata unset d run site"),
        ("meta rm d run", "metadata unset d run"),
        ("meta show", "metadata keys"),
        ("dataset add d run=5 site=a,b", "dataset create d / run = 5 and site in (a, b)"),
        ("dataset annotate d what it is", "dataset annotate d what it is"),
        ("dataset show", "dataset list"),
        ("dataset show -l", "dataset list"),
        ("dataset show d", "dataset show d"),
        ("dataset show -l d", "dataset show -l d"),
        ("dataset status d", "dataset show -l d"),
        ("dataset files d", "dataset files d"),
        ("dataset freeze d", "dataset freeze d"),
        ("dataset rm d", "dataset rm d"),
        ("meta tags d site", "find d --facet site"),
        ("meta tags d site where run=5", "find d --facet site --where run = 5"),
    ],
)  # fmt: skip
def test_a_command_becomes_spinors(line: str, expected: str) -> None:
    (ours,) = translated(line)
    assert " ".join(ours) == expected


@pytest.mark.parametrize(
    "line",
    [
        "register", "register file a None 5", "register x a", "register file a None 5 SE1 None z",
        "register replica a",
        "unregister a", "add a b", "get", "rmreplica a", "ancestor", "ancestorset a", "replicas", "ls -z", "chmod 755",
        "meta", "meta set d run", "meta set d run 5 site", "meta index run", "meta index run blob", "meta tags d",
        "meta tags d site run=5", "mkdir", "dataset", "dataset add", "dataset annotate d", "dataset freeze",
    ],
)  # fmt: skip
def test_what_is_wrong_is_a_usage_error(line: str) -> None:
    with pytest.raises(click.UsageError):
        translated(line)


@pytest.mark.parametrize("line", ["meta metaset m run=5", "meta index m metaset"])
def test_what_spinor_has_not_is_said_with_what_it_has(line: str) -> None:
    with pytest.raises(NotInSpinor, match="no sets of metadata"):
        translated(line)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("x", ""),
        ("x run=1,2,3", "run in (1, 2, 3)"),
        ("x run>=5 run<9", "run >= 5 and run < 9"),
        ("x run=1 run=2 site=Any", "run in (1, 2) and site exists"),
        ("x FileName=*.root SE=disk", 'name like "*.root" and se = disk'),
        ("x site='a b' run=1", 'site = "a b" and run = 1'),
        ("x {'run': 5}", "run = 5"),
        ("x {'run': {'>=': 5, '<': 9}, 'site': ['a', 'b']}", "run >= 5 and run < 9 and site in (a, b)"),
        ("x {'site': {'nin': ['a', 'b']}, 'User': 'ada'}", "site not in (a, b) and owner = ada"),
        ('x {"run":{"in":[1,2]}}', "run in (1, 2)"),
    ],
)
def test_diracs_queries(words: str, expected: str) -> None:
    found = where(words_of(words)[1:])
    assert found == (["--where", expected] if expected else [])


@pytest.mark.parametrize("words", ["x {'run': {'~': 5}}", "x {'run'", "x {'run': __import__('os')}", "x run", "x {1}"])
def test_a_query_that_is_none(words: str) -> None:
    with pytest.raises(SpinorError):
        where(words_of(words)[1:])
