"""chmod, chown, chgrp, getfacl and setfacl, from the words on the command line to the rows."""

import json
import stat as posix

import pytest

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.access import rules
from spinor.catalog.access import service as access
from spinor.catalog.access.models import AccessRequest
from spinor.catalog.access.text import read_entries, read_names
from spinor.catalog.errors import AccessDenied, BadAccess, TreeTooLarge
from spinor.db import fetch_rows
from spinor.errors import NotFound

from .direct import Commands
from .roles import Roles, add_roles, change, entries, shown
from .workbench import World, check_sums, register


@pytest.fixture
def spinor(world: World, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(world.db, monkeypatch)


@pytest.fixture
async def roles(world: World) -> Roles:
    return await add_roles(world)


@pytest.mark.parametrize(
    ("old", "mode", "directory", "new"),
    [
        (0o644, "755", False, 0o755),
        (0o2755, "700", True, 0o2700),  # Three digits say nothing of setgid and sticky.
        (0o3755, "0700", True, 0o700),
        (0o644, "u+x", False, 0o744),
        (0o644, "+x", False, 0o755),
        (0o777, "go-rwx", False, 0o700),
        (0o644, "a+X", False, 0o644),
        (0o744, "a+X", False, 0o755),
        (0o644, "a+X", True, 0o755),
        (0o640, "o=g", False, 0o644),
        (0o750, "go=u-w", False, 0o755),
        (0o755, "u=rw,go=", False, 0o600),
        (0o755, "g+s,+t", True, 0o3755),
        (0o3755, "g-s,-t", True, 0o755),
        (0o755, "u-w+r,g=u", True, 0o555),
    ],
)
def test_modes_change_as_with_chmod(old: int, mode: str, directory: bool, new: int) -> None:
    rules.check_mode(mode)
    assert oct(rules.changed_mode(old, mode, directory=directory)) == oct(new)


@pytest.mark.parametrize("mode", ["", "8", "u+y", "u", "rwx", "u+w,", "4755", "77777", "u+s", "0o755", "u=gr", "ü+x"])
def test_what_is_no_mode_is_refused(mode: str) -> None:
    with pytest.raises(BadAccess):
        rules.check_mode(mode)


@pytest.mark.parametrize(
    "text",
    ["", "u", "u:alan", "x:alan:rwx", "u:alan:rwz", "u:alan:rwxrw", "u:alan:8", "u:a:b:rwx", "u:alan:rwx,", "d:"],
)
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(BadAccess):
        read_entries(text)


def test_entries_to_drop_are_named_without_permissions() -> None:
    own, default = read_names("u:alan,g:prod:,d:g:prod,m")
    assert [(entry.kind, entry.name) for entry in own] == [("user", "alan"), ("group", "prod"), ("mask", "")]
    assert [(entry.kind, entry.name) for entry in default] == [("group", "prod")]


async def modes(world: World, *paths: str) -> list[str]:
    async with world.db.transaction() as tx:
        return [f"{found.mode:04o}" for found in await access.show_access(tx, world.ada_admin, list(paths))]


async def test_a_mode_changes_by_octal_and_by_words(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/sub/y")
    tree = ("/astro/d", "/astro/d/x", "/astro/d/sub", "/astro/d/sub/y")
    for words, expected in {
        ("chmod", "0700", "/astro/d"): ["0700", "0644", "0755", "0644"],
        ("chmod", "u+x", "/astro/d/x"): ["0700", "0744", "0755", "0644"],
        ("chmod", "-w", "/astro/d/x"): ["0700", "0544", "0755", "0644"],
        ("chmod", "-R", "a=rX", "/astro/d"): ["0555", "0555", "0555", "0444"],
        ("chmod", "-R", "u+w,g+s", "/astro/d/sub", "/astro/d"): ["2755", "2755", "2755", "2644"],
    }.items():
        assert await spinor(world.ada, "file", *words) == 0, words
        assert await modes(world, *tree) == expected, words
        await check_sums(world.db, files=2)
    assert await spinor(world.ada, "file", "chmod", "0755", "/astro/d", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"files": 0, "directories": 1}
    assert await spinor(world.ada, "file", "chmod", "0755", "/astro/d", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"files": 0, "directories": 0}, "nothing was to change"
    for words, code, said in (
        (("chmod", "u+y", "/astro/d"), 2, "is not a mode"),
        (("chmod", "4755", "/astro/d"), 2, "setuid"),
        (("chmod", "0755", "/astro/nowhere"), 3, "/astro/nowhere"),
        (("chmod", "0755", "/bio/x"), 4, "outside your VO"),
        (("chmod", "0755", "/astro"), 4, "is not yours"),
    ):
        assert await spinor(world.ada, "file", *words) == code, words
        assert said in capsys.readouterr().err, words


async def test_only_owners_change_and_only_managers_give_away(
    world: World, roles: Roles, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/x", size_bytes=70)
    for caller, words, code, said in (
        (world.alan, ("chmod", "0777", "/astro/d/x"), 4, "is not yours"),
        (world.alan, ("setfacl", "-m", "u:alan:rwx", "/astro/d/x"), 4, "is not yours"),
        (world.alan, ("chgrp", "astro_prod", "/astro/d/x"), 4, "is not yours"),
        (world.ada, ("chown", "alan", "/astro/d/x"), 4, "files:manage"),
        (world.ada, ("chown", "ada", "/astro/d/x"), 0, ""),
        (world.ada, ("chgrp", "astro_prod", "/astro/d/x"), 4, "not a member"),
        (world.ada, ("chgrp", "astro_admins", "/astro/d/x"), 0, ""),
        (world.ada, ("chgrp", "nobodies", "/astro/d/x"), 3, "no group nobodies"),
        (world.ada, ("chgrp", "bio_users", "/astro/d/x"), 3, "no group bio_users"),
        (world.ada_admin, ("chown", "bea", "/astro/d/x"), 3, "no user bea"),
        (world.ada_admin, ("chown", "alan:astro_prod", "/astro/d/x"), 0, ""),
        (world.ada, ("chmod", "0777", "/astro/d/x"), 4, "is not yours"),
        (world.alan, ("chmod", "0600", "/astro/d/x"), 0, ""),
        (world.ada_admin, ("chown", ":astro_users", "/astro/d/x"), 0, ""),
    ):
        assert await spinor(caller, "file", *words) == code, words
        assert said in capsys.readouterr().err.replace('"', ""), words
        await check_sums(world.db, files=1)
    assert await spinor(world.ada, "file", "chown", ":", "/astro/d/x") == 2
    async with world.db.transaction() as tx:
        (stat,) = await service.stat_files(tx, world.ada_admin, ["/astro/d/x"])
        assert (stat.owner, stat.group, stat.mode) == ("alan", "astro_users", 0o600)
        (usage,) = await service.usage(tx, world.ada_admin, ["/astro"])
        assert [(o.owner, o.files, o.size_bytes) for o in usage.owners] == [("alan", 1, 70)]


async def test_getfacl_says_what_setfacl_set(
    world: World, roles: Roles, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/x")
    for words in (
        ("-m", "u:alan:rwx,g:astro_prod:r-x", "/astro/d"),
        ("-m", "d:g:astro_prod:rwX", "/astro/d"),
        ("-m", "m::r-x", "/astro/d"),
    ):
        assert await spinor(world.ada, "file", "setfacl", *words) == 0
    assert await spinor(world.ada, "file", "getfacl", "/astro/d", "/astro/d/x") == 0
    assert (
        capsys.readouterr().out
        == """\
# file: /astro/d
# owner: ada
# group: astro_users
user::rwx
user:alan:rwx  #effective:r-x
group::r-x
group:astro_prod:r-x
mask::r-x
other::r-x
default:user::rwx
default:group::r-x
default:group:astro_prod:rwx
default:mask::rwx
default:other::r-x

# file: /astro/d/x
# owner: ada
# group: astro_users
user::rw-
group::r--
other::r--
"""
    )
    assert await spinor(world.ada, "file", "ls", "-l", "/astro") == 0
    assert "drwxr-xr-x+" in capsys.readouterr().out
    assert await spinor(world.ada, "file", "ls", "-l", "/astro/d") == 0
    assert "+" not in capsys.readouterr().out
    assert await spinor(world.ada, "file", "getfacl", "/astro", "--json") == 0
    root = json.loads(capsys.readouterr().out)
    assert (root["owner"], root["group"], root["mode"], len(root["acl"])) == (None, None, 0o1775, 3)
    assert await spinor(world.ada, "file", "getfacl", "/astro") == 0
    assert "# flags: --t\n" in capsys.readouterr().out
    changes: tuple[tuple[tuple[str, ...], str], ...] = (
        (("-x", "u:alan"), "0755 user::rwx,group::r-x,group:astro_prod:r-x,mask::r-x,other::r-x"),
        (("-k",), "0755 user::rwx,group::r-x,group:astro_prod:r-x,mask::r-x,other::r-x"),
        (("-x", "g:astro_prod"), "0755 user::rwx,group::r-x,other::r-x"),
        (("--set", "u::rwx,g::-,o::-,u:alan:7"), "0770 user::rwx,user:alan:rwx,group::---,mask::rwx,other::---"),
        (("-b",), "0700 user::rwx,group::---,other::---"),
    )
    for options, left in changes:
        assert await spinor(world.ada, "file", "setfacl", *options, "/astro/d") == 0, options
        assert (await shown(world.db, world.ada, "/astro/d")).partition(",d:")[0] == left, options
        await check_sums(world.db, files=1)


async def test_setfacl_refuses_what_makes_no_sense(
    world: World, spinor: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    await register(world.db, world.ada, "/astro/d/x")
    for words, code, said in (
        (("-m", "u:nobody:rwx", "/astro/d"), 3, "no user"),
        (("-m", "u:bea:rwx", "/astro/d"), 3, "no user"),
        (("-x", "g:nobodies", "/astro/d"), 3, "no group"),
        (("-m", "u:alan:rwz", "/astro/d"), 2, "permissions"),
        (("-m", "alan:rwx", "/astro/d"), 2, "no ACL entry"),
        (("-m", "m:alan:rwx", "/astro/d"), 2, "has no name"),
        (("-m", "u:alan:r,u:alan:w", "/astro/d"), 2, "two entries"),
        (("-x", "u:", "/astro/d"), 2, "is in every ACL"),
        (("-d", "-m", "u:alan:r", "/astro/d/x"), 2, "no directory"),
        (("/astro/d",), 2, "Say what to change"),
        (("-m", "u:alan:r", "/astro/nowhere"), 3, "/astro/nowhere"),
    ):
        before = await shown(world.db, world.ada, "/astro/d")
        assert await spinor(world.ada, "file", "setfacl", *words) == code, words
        assert said in capsys.readouterr().err, words
        assert await shown(world.db, world.ada, "/astro/d") == before


async def test_a_recursive_acl_reaches_files_and_directories(world: World, roles: Roles, spinor: Commands) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/sub/y")
    await change(world.db, world.ada, "/astro/d", mode="go=", recursive=True)
    words = ("setfacl", "-R", "-m", "g:astro_prod:rwX,d:g:astro_prod:rwX", "/astro/d")
    assert await spinor(world.ada, "file", *words) == 0
    assert (await shown(world.db, world.ada, "/astro/d/sub")).startswith(
        "0770 user::rwx,group::---,group:astro_prod:rwx,mask::rwx,other::---,d:user::rwx,d:group::---"
    )
    assert await shown(world.db, world.ada, "/astro/d/sub/y") == (
        "0660 user::rw-,group::---,group:astro_prod:rw-,mask::rw-,other::---"
    )
    await register(world.db, roles.grace_prod, "/astro/d/sub/new")
    async with world.db.transaction() as tx:
        assert len(await service.stat_files(tx, roles.alan_prod, ["/astro/d/x", "/astro/d/sub/new"])) == 2
        for denied in (world.alan, roles.grace):  # The same people in other roles.
            with pytest.raises(Exception, match="may not reach"):
                await service.stat_files(tx, denied, ["/astro/d/x"])
    # chmod of the group's bits is chmod of the mask: the named group has no more than it from now on.
    assert await spinor(world.ada, "file", "chmod", "g-w", "/astro/d/sub") == 0
    assert "group:astro_prod:rwx  #effective:r-x" in await shown(world.db, world.ada, "/astro/d/sub")
    await check_sums(world.db, files=3)


async def attempt(world: World, caller: Caller, *paths: str, **what: object) -> None:
    await change(world.db, caller, *paths, **what)  # type: ignore[arg-type]


async def test_all_of_a_request_or_nothing(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/sub/y")
    await change(world.db, world.ada, "/astro/d", mode="0777")
    await register(world.db, world.alan, "/astro/d/sub2/alans")
    paths = ("/astro/d", "/astro/d/x", "/astro/d/sub", "/astro/d/sub/y", "/astro/d/sub2")
    before = await modes(world, *paths)
    with pytest.raises(AccessDenied, match="sub2"):
        await attempt(world, world.ada, "/astro/d", mode="0700", recursive=True)
    with pytest.raises(AccessDenied):
        await attempt(world, world.ada, "/astro/d/x", "/astro/d/sub2/alans", mode="0600")
    assert await modes(world, *paths) == before
    await check_sums(world.db, files=3)


async def test_a_slice_does_what_it_may_and_tells_the_rest(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/sub/y")
    await change(world.db, world.ada, "/astro/d", mode="0777")
    await register(world.db, world.alan, "/astro/d/x2", "/astro/d/his/z", "/astro/d/his/deep/z")
    await change(world.db, world.alan, "/astro/d/his", mode="0700")
    from spinor.catalog import store
    from spinor.catalog.access import store as rows

    async with world.db.transaction() as tx:
        await store.hold_tree_alone(tx, world.ada)
        prepared = await access.prepare_change(tx, world.ada, AccessRequest(paths=[], mode="u=rwX,go="))
        directories = await rows.directories_within(tx, world.ada, ["/astro/d"])
        files = await store.files_in(tx, world.ada, [directory.directory_id for directory in directories])
        done = await access.change_slice(tx, world.ada, prepared, directories, files)
    assert (done.directories, done.files) == (2, 2)
    assert done.refused.keys() == {"/astro/d/his", "/astro/d/x2"}, "behind the closed directory nothing is named"
    assert done.refusals == 2
    await check_sums(world.db, files=5)


async def test_a_huge_tree_is_work_for_an_operation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    monkeypatch.setattr(access, "MAX_FILES", 1)
    with pytest.raises(TreeTooLarge, match="file-operations"):
        await attempt(world, world.ada, "/astro/d", mode="0700", recursive=True)
    monkeypatch.setattr(access, "MAX_FILES", 2)
    await attempt(world, world.ada, "/astro/d", mode="0700", recursive=True)


async def test_changes_stand_in_the_feed(world: World) -> None:
    await register(world.db, world.ada, "/astro/d/x", "/astro/d/y")
    await change(world.db, world.ada, "/astro/d", mode="go=", recursive=True)
    async with world.db.transaction() as tx:
        found = await fetch_rows(
            tx,
            "SELECT kind::text, path, names, detail FROM catalog.change"
            " WHERE kind::text LIKE '%changed' ORDER BY change_id",
        )
    assert found == [
        ("files-changed", "/astro/d", ["x", "y"], {"access": True}),
        ("directory-changed", "/astro/d", None, {"access": True}),
    ]


async def test_the_root_changes_for_managers_only(world: World) -> None:
    await register(world.db, world.ada, "/astro/x")
    with pytest.raises(AccessDenied):
        await attempt(world, world.ada, "/astro", mode="0700")
    await attempt(world, world.ada_admin, "/astro", mode="1755", acl_set=entries("g:astro_users:rwx"))
    assert await shown(world.db, world.ada, "/astro") == (
        "1775 user::rwx,group::r-x,group:astro_users:rwx,mask::rwx,other::r-x"
    )
    assert posix.filemode(posix.S_IFDIR | 0o1775) == "drwxrwxr-t"
    await register(world.db, world.alan, "/astro/y")
    await check_sums(world.db, files=2)


async def test_who_has_left_can_be_dropped_and_not_be_added(world: World, roles: Roles) -> None:
    await register(world.db, world.ada, "/astro/d/x")
    await change(world.db, world.ada, "/astro/d", acl_set=entries("u:grace:rwx,g:astro_guests:rwx"))
    before = await shown(world.db, world.ada, "/astro/d")
    async with world.db.transaction() as tx:
        await tx.execute("DELETE FROM identity.membership WHERE user_id = (SELECT user_id FROM identity.user_account"
                         " WHERE name = 'grace')")  # fmt: skip
        await tx.execute("UPDATE identity.vo_group SET retired_at = now() WHERE name = 'astro_guests'")
    assert await shown(world.db, world.ada, "/astro/d") == before
    for text in ("u:grace:r", "g:astro_guests:r"):
        with pytest.raises(NotFound):
            await change(world.db, world.ada, "/astro/d/x", acl_set=entries(text))
    await change(world.db, world.ada, "/astro/d", acl_drop=read_names("u:grace,g:astro_guests")[0])
    assert await shown(world.db, world.ada, "/astro/d") == "0755 user::rwx,group::r-x,other::r-x"
