"""Commands on who may do what: mode, owner, group, access control lists."""

from typing import Any

import click


def _recursive(command: Any) -> Any:
    return click.option("-R", "--recursive", is_flag=True, help="Also all that is below directories.")(command)


def _json(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print how many entries changed, as JSON.")(command)


def _change(kind: str, paths: tuple[str, ...], recursive: bool, as_json: bool, **change: Any) -> int:
    """Trees that are too large for one request go by an operation in the background, which is followed."""
    from spinor.catalog.access.models import AccessChanged
    from spinor.catalog.cli.following import start
    from spinor.client import Client, RemoteError
    from spinor.terminal import read_words, show_one

    body = {"paths": read_words(paths), "recursive": recursive, **change}
    with Client.from_environment() as client:
        try:
            changed = client.post("/api/files/access", body, AccessChanged)
        except RemoteError as error:
            if error.code != "tree-too-large":
                raise
            wanted = {"kind": kind, "paths": body["paths"], **change}
            return start(client, wanted, wait=True, as_json=as_json, quiet=False)
    if as_json:
        show_one(changed, as_json=True)
    return 0


# A mode may begin with a minus: `chmod -w PATH` is as good as `chmod a-w PATH`.
@click.command(context_settings={"ignore_unknown_options": True})
@_recursive
@_json
@click.argument("mode")
@click.argument("paths", nargs=-1, required=True)
def chmod(mode: str, paths: tuple[str, ...], recursive: bool, as_json: bool) -> int:
    """Change the MODE of PATHS (- reads them from stdin): octal (0755) or changes (u+w,go-r,a+X)."""
    return _change("chmod", paths, recursive, as_json, mode=mode)


@click.command()
@_recursive
@_json
@click.argument("owner", metavar="USER[:GROUP]")
@click.argument("paths", nargs=-1, required=True)
def chown(owner: str, paths: tuple[str, ...], recursive: bool, as_json: bool) -> int:
    """Give PATHS to another owner, and to a group; only who manages files may (`files:manage`)."""
    user, _, group = owner.partition(":")
    given = {name: value for name, value in (("owner", user), ("group", group)) if value}
    if not given:
        raise click.UsageError("Give USER, USER:GROUP or :GROUP.")
    return _change("chown", paths, recursive, as_json, **given)


@click.command()
@_recursive
@_json
@click.argument("group")
@click.argument("paths", nargs=-1, required=True)
def chgrp(group: str, paths: tuple[str, ...], recursive: bool, as_json: bool) -> int:
    """Give PATHS to another GROUP, of which you are a member."""
    return _change("chgrp", paths, recursive, as_json, group=group)


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def getfacl(paths: tuple[str, ...], as_json: bool) -> None:
    """Show owner, group and all entries of the access control lists of PATHS (- reads them from stdin)."""
    from spinor import terminal
    from spinor.catalog.access.models import AccessShown
    from spinor.client import Client

    with Client.from_environment() as client:
        body = {"paths": terminal.read_words(paths)}
        found = client.post("/api/files/access/show", body, list[AccessShown])
    if as_json:
        terminal.show(found, [], id_field="path", as_json=True)
        return
    for number, access in enumerate(found):
        for line in ([""] if number else []) + _lines(access):
            click.echo(line)


def _lines(access: Any) -> list[str]:
    """As the getfacl of POSIX systems writes it; `#effective` where the mask takes something away."""
    from spinor.catalog.access.text import written
    from spinor.terminal import printable

    flags = "".join(
        letter if access.mode & bit else "-" for bit, letter in ((0o4000, "s"), (0o2000, "s"), (0o1000, "t"))
    )
    lines = [f"# file: {printable(access.path)}", f"# owner: {access.owner or '(the VO)'}"]
    lines.append(f"# group: {access.group or '(every group)'}")
    if flags != "---":
        lines.append(f"# flags: {flags}")
    return lines + written(access.acl) + [f"default:{line}" for line in written(access.default_acl)]


@click.command()
@_recursive
@_json
@click.option("-m", "--modify", multiple=True, metavar="ENTRIES", help="Add or replace entries: u:alan:rwX,g:prod:r-x")
@click.option("-x", "--remove", multiple=True, metavar="ENTRIES", help="Drop entries: u:alan,g:prod")
@click.option("--set", "whole", multiple=True, metavar="ENTRIES", help="These entries, and no others.")
@click.option(
    "-b", "--remove-all", is_flag=True, help="Drop all entries but owner, group and others; default ones too."
)
@click.option("-k", "--remove-default", is_flag=True, help="Drop the default entries.")
@click.option("-d", "--default", "as_default", is_flag=True, help="Entries are default ones: what new entries get.")
@click.argument("paths", nargs=-1, required=True)
def setfacl(paths: tuple[str, ...], recursive: bool, as_json: bool, **options: Any) -> int:
    """Change the access control lists of PATHS (- reads them from stdin).

    \b
    An entry is user:NAME:rwx, group:NAME:rx, mask::rx or other::r; u, g, m, o for short; a NAME left out is the owner
    or the owning group. A group is a role of your VO. default: or d: before it makes it one that new entries get.
    spinor file setfacl -R -m g:astro_prod:rwX,d:g:astro_prod:rwX /astro/run1
    """
    from spinor.catalog.access.text import read_entries, read_names

    change: dict[str, Any] = {}
    for option, reader, field in (
        ("modify", read_entries, "acl_set"), ("remove", read_names, "acl_drop"), ("whole", read_entries, "acl"),
    ):  # fmt: skip
        for text in options[option]:
            own, default = reader(text, default=options["as_default"])
            for name, entries in ((field, own), (f"default_{field}", default)):
                if entries:
                    change.setdefault(name, []).extend(entries)
    if options["remove_all"]:
        change.setdefault("acl", [])
    if options["remove_all"] or options["remove_default"]:
        change.setdefault("default_acl", [])
    if not change:
        raise click.UsageError("Say what to change: -m, -x, --set, -b or -k.")
    return _change("setfacl", paths, recursive, as_json, **change)
