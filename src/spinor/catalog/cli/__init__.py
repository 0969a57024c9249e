"""`spinor file`: names, places and bytes of files. Each verb's module is imported when it is used."""

import importlib

import click

# verb -> where its command is, and its line in the help. Those that move bytes belong to the storage.
_VERBS: dict[str, tuple[str, str]] = {
    "put": ("spinor.storage.cli:put", "Copy local files to a storage element and register them."),
    "get": ("spinor.storage.cli:get", "Copy files to this machine, and verify them."),
    "ls": ("spinor.catalog.cli.names:ls", "List a directory."),
    "stat": ("spinor.catalog.cli.names:stat", "Show what is known of files."),
    "rm": ("spinor.catalog.cli.removing:rm", "Remove files and directories."),
    "operation": ("spinor.catalog.cli.operations:operation", "Follow, stop and start large work in the background."),
    "mv": ("spinor.catalog.cli.names:mv", "Move or rename files and directories."),
    "mkdir": ("spinor.catalog.cli.names:mkdir", "Make directories."),
    "usage": ("spinor.catalog.cli.names:usage", "Show what directories hold, per storage element."),
    "find": ("spinor.catalog.cli.querying:find", "Find files by their fields and metadata."),
    "metadata": ("spinor.catalog.cli.metadata:metadata", "Show, set and declare metadata."),
    "replicas": ("spinor.storage.cli:replicas", "Show where the bytes of files are."),
    "ancestors": ("spinor.catalog.cli.lineage:ancestors", "Show from which files a file was made."),
    "descendants": ("spinor.catalog.cli.lineage:descendants", "Show which files were made from a file."),
    "set-ancestors": ("spinor.catalog.cli.lineage:set_ancestors", "Say from which files a file was made."),
    "changes": ("spinor.catalog.cli.changes:changes", "Show what happened to files, and go on showing it."),
    "dump": ("spinor.catalog.cli.dumping:dump", "Write all that lies on a storage element."),
    "replica": ("spinor.catalog.cli.replicas:replica", "Add, remove and judge single replicas."),
    "exists": ("spinor.catalog.cli.replicas:exists", "Tell files, directories and nothing apart."),
    "guid": ("spinor.catalog.cli.replicas:guid", "Find files by their guids."),
    "set-status": ("spinor.catalog.cli.replicas:set_status", "Say whether files may be used."),
    "chmod": ("spinor.catalog.cli.access:chmod", "Change the mode of files and directories."),
    "chown": ("spinor.catalog.cli.access:chown", "Give files and directories to another owner."),
    "chgrp": ("spinor.catalog.cli.access:chgrp", "Give files and directories to another group."),
    "getfacl": ("spinor.catalog.cli.access:getfacl", "Show who may do what with files and directories."),
    "setfacl": ("spinor.catalog.cli.access:setfacl", "Let named users and groups do more or less."),
    "quota": ("spinor.catalog.cli.quotas:quota", "Show, set and remove quotas."),
    "register": ("spinor.catalog.cli.names:register", "Register files whose bytes are in place."),
    "register-directory": ("spinor.catalog.cli.tree:register_directory", "Register a whole directory tree in place."),
    "register-manifest": ("spinor.catalog.cli.manifest:register_manifest", "Register what a table or a dump names."),
    "fsck": ("spinor.storage.fsck:fsck", "Check the catalog, and storages against it."),
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module, _, name = _VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _VERBS.items()])


@click.group(cls=_Verbs)
def file() -> None:
    """Files: one tree of names (LFNs) per VO over all its storages.

    \b
    spinor file put data.fits /astro/run1/ --se my-se
    spinor file find /astro "run > 5 and size < 1GB" -q | spinor file get - here/
    """
