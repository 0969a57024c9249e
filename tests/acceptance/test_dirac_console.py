"""A DIRAC user's session, as typed, on a real service: each command and what must come out."""

from pathlib import Path

import pytest

from .conftest import SPINOR, Service

pytestmark = pytest.mark.acceptance
CONSOLE = str(Path(SPINOR).with_name("dirac-dms-filecatalog-cli"))
GUID = "5e7b3cf0-8d34-4a2e-9b6d-0a7b2c3d4e5f"

# What is typed, and what it prints: the whole of it, or after `~` parts of it.
SESSION: list[tuple[str, str]] = [
    ("mkdir /demo/dirac", ""),
    ("cd /demo/dirac", ""),
    ("pwd", "/demo/dirac"),
    ("register file f1 None 100 local None None", ""),
    (f"register file f2 /demo/elsewhere/f2 200 local {GUID} deadbeef", ""),
    ("guid f2", f"GUID: {GUID}"),
    ("replicas f2", "~local /elsewhere/f2"),
    ("add up.dat up.txt local", ""),
    ("add up2.dat up.txt local 5e7b3cf0-8d34-4a2e-9b6d-0a7b2c3d4e60", ""),
    ("guid up2.dat", "GUID: 5e7b3cf0-8d34-4a2e-9b6d-0a7b2c3d4e60"),
    ("ls", "f1\nf2\nup.dat\nup2.dat"),
    ("ls -lS", "~200 100"),
    ("ls -ltrn", "~f1 f2 up.dat"),
    ("ls -lH f2", "~200 B"),
    ("size f1", "lfn: /demo/dirac/f1\nSize: 100"),
    ("size", "directory: /demo/dirac\nLogical Size: 308 Files: 4 Directories: 0"),
    ("size -l /demo/dirac", "~StorageElement Size Replicas local 308 4"),
    ("size -l -f .", "~308 4"),
    ("id", "~group=demo_users vo=demo"),
    ("meta index -d dirac_run int", ""),
    ("meta index -f dirac_quality float", ""),
    ("meta index dirac_site string", ""),
    ("meta show", "~dirac_quality float dirac_run integer dirac_site text"),
    ("meta set . dirac_run 5 dirac_site Lyon", ""),
    ("meta set f1 dirac_quality 0.5", ""),
    ("meta set f2 dirac_quality 1.5", ""),
    ("meta get", "~dirac_run 5 dirac_site Lyon"),
    ("meta get f1", "~dirac_quality 0.5 dirac_run 5 /demo/dirac"),
    ("find -q . dirac_run=5 dirac_quality>1", "/demo/dirac/f2"),
    ("find -q /demo/dirac dirac_run=4,5 FileName=f*", "/demo/dirac/f1\n/demo/dirac/f2"),
    ("find -q . dirac_quality=Missing", "/demo/dirac/up.dat\n/demo/dirac/up2.dat"),
    ("find -q . {'dirac_quality':{'<=':0.5}}", "/demo/dirac/f1"),
    ("find -q -D /demo dirac_run=5", "/demo/dirac"),
    ("find . Size>150", "/demo/dirac/f2"),
    ("meta tags . dirac_quality where dirac_run=5", "~0.5 1.5"),
    ("dataset add dirac_set dirac_run=5 FileName=f*", "~dirac_set"),
    ("dataset annotate dirac_set for the test", ""),
    ("dataset show", "~dirac_set"),
    ("dataset show -l dirac_set", "~dirac_set for the test"),
    ("dataset status dirac_set", "~dirac_set dynamic"),
    ("dataset files dirac_set", "/demo/dirac/f1\n/demo/dirac/f2"),
    ("dataset check dirac_set", "~dirac_set"),
    ("dataset update dirac_set", "~dirac_set"),
    ("dataset freeze dirac_set", "~dirac_set"),
    ("dataset release dirac_set", "~dirac_set"),
    ("dataset rm dirac_set", ""),
    ("meta remove f1 dirac_quality", ""),
    ("find -q . dirac_quality=Any", "/demo/dirac/f2"),
    ("meta index -r dirac_site", ""),
    ("ancestorset up.dat f1 f2", ""),
    ("ancestorset up2.dat up.dat", ""),
    ("ancestor up.dat", "~/demo/dirac/f1 /demo/dirac/f2"),
    ("ancestor up2.dat 2", "~up.dat /demo/dirac/f1"),
    ("descendent f1 2", "~/demo/dirac/up.dat /demo/dirac/up2.dat"),
    ("chmod 700 f1", ""),
    ("ls -l f1", "~-rwx------"),
    ("chmod -R 755 /demo/dirac", ""),
    ("chgrp demo_admins f1", ""),
    ("lcd back", "~back"),
    ("get up.dat", ""),
    ("lls", "up.dat"),
    ("lcd ..", "~Local directory"),
    ("get up.dat back", ""),
    ("user show", "root"),
    ("group show", "demo_admins\ndemo_users"),
    ("stats", "~Files 4"),
    ("unregister file f1", ""),
    ("register replica up.dat None local", ""),
    ("rm up.dat", ""),
    ("mkdir sub", ""),
    ("unregister dir sub", ""),
    ("cd -", ""),
    ("rmdir -rf /demo/dirac", ""),
    ("help", "~register replicate unregister"),
    ("quit", ""),
]
REFUSED: list[tuple[str, int, str]] = [
    ("replicate f SE2", 1, "register replica"),
    ("rebuild", 4, "files:manage"),
    ("repair", 4, "files:manage"),
    ("user add ada", 1, "spinor config apply"),
    ("group delete g", 1, "spinor config apply"),
    ("meta metaset m run=5", 1, "no sets of metadata"),
    ("meta index m metaset", 1, "no sets of metadata"),
    ("find -q . bogus_key=5", 2, "unknown field"),
    ("find . {'run'", 2, "no dictionary"),
    ("rmdir nowhere", 3, "There is no /demo/nowhere"),
    ("register file a", 2, "Usage: register file"),
    ("lst", 2, "did you mean ls?"),
    ("help lst", 2, "no command lst"),
    ("execfile /nonexistent", 3, "No such file"),
    ("ls -Z", 2, "Option -Z not recognized"),
]


def console(service: Service, *words: str, stdin: str | None = None) -> tuple[int, str, str]:
    import subprocess

    done = subprocess.run(
        [CONSOLE, *words], env=service.environ, input=stdin, capture_output=True, text=True, timeout=120,
        cwd=service.work,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_a_session_as_a_dirac_user_types_it(service: Service) -> None:
    """One process; `pwd` after each command tells where its output ends."""
    (service.work / "up.txt").write_text("data")
    (service.work / "back").mkdir(exist_ok=True)
    mark = "ENDOFCOMMAND"
    (service.work / mark).write_text("")
    lines = "".join(f"{line}\nlls {{work}}/{mark}\n" for line, _ in SESSION[:-1]).replace("{work}", str(service.work))
    code, out, err = console(service, stdin=lines + SESSION[-1][0])
    assert code == 0, (out[-500:], err[-1000:])
    printed = out.split(f"{mark}\n")
    for (line, expected), found in zip(SESSION, printed, strict=True):
        if expected.startswith("~"):
            position = 0
            for part in expected[1:].split():
                position = found.find(part, position)
                assert position >= 0, f"{line}: no {part} in\n{found}"
        else:
            assert found.strip() == expected, line


@pytest.mark.parametrize(("line", "code", "part"), REFUSED)
def test_what_is_refused_says_why_and_has_an_exit_status(service: Service, line: str, code: int, part: str) -> None:
    service.ok("file", "mkdir", "/demo/d")
    found, _, err = console(service, "-c", line)
    lines = 3 if "unknown field" in part else 1  # Where a query is wrong, the place is shown below.
    assert (found, part in err, len(err.splitlines())) == (code, True, lines), err


def test_a_directory_that_holds_something_is_only_removed_when_forced(service: Service) -> None:
    setup = "mkdir /demo/full/sub; register file /demo/full/f None 1 local None None"
    assert console(service, "-c", setup)[0] == 0
    code, _, err = console(service, "-k", "-c", "rmdir /demo/full; rmdir -r /demo/full; rmdir -f /demo/full")
    assert code == 5
    assert len(err.splitlines()) == 3
    code, _, err = console(service, "-c", "rmdir -rf /demo/full")
    assert (code, "bytes stay" in err) == (0, True)
    assert service.run("file", "ls", "/demo/full").code == 3


def test_dirac_dms_register_directory(service: Service) -> None:
    import subprocess

    tree = service.work / "data" / "storage" / "old-habits"
    tree.mkdir(parents=True)
    (tree / "a.dat").write_text("a")
    command = str(Path(SPINOR).with_name("dirac-dms-register-directory"))
    words = [command, "/demo/old-habits", str(tree), "local", "--checksum", "adler32", "-j", "2"]
    for _ in range(2):
        done = subprocess.run(words, env=service.environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert service.ok("file", "ls", "/demo/old-habits").lines == ["a.dat"]
