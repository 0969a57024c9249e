"""`spinor bootstrap`: everything that a new service needs before its first server starts."""

from __future__ import annotations

import os
import pwd
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from spinor.db import Database
    from spinor.identity.keys import KeyRing
    from spinor.settings import Settings

_MEMORY_SHARE = 0.8  # Of the machine, for the pilots of its own computing element.
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@click.command()
def bootstrap() -> None:
    """Prepare a new service: tables, signing keys, first operations data. What is there already stays as it is."""
    import uvloop

    from spinor import logs
    from spinor.identity.keys import KeyRing
    from spinor.migrations import migrate
    from spinor.settings import Settings

    settings = Settings.from_environment()
    logs.configure(settings.log_level)
    migrate(settings.database_url)
    keys = KeyRing.create(settings.keys_dir)
    uvloop.run(_fill(settings, keys))


async def _fill(settings: Settings, keys: KeyRing) -> None:
    from spinor.app import CONSTRAINT_ERRORS
    from spinor.db import Database

    async with Database.open(settings.database_url, size=1, errors=CONSTRAINT_ERRORS) as db:
        await _configure(settings, db)
        if settings.development_login:
            await _sign_in(settings, keys, db)


async def _configure(settings: Settings, db: Database) -> None:
    from spinor.configuration import service

    for directory in (settings.storage_dir, settings.ce_dir, settings.blob_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with db.transaction() as tx:
        if not await service.history(tx, limit=1):
            document = first_document(settings, os_user())
            await service.apply(tx, document, author="bootstrap", base_revision=0, comment="The first operations data.")


async def _sign_in(settings: Settings, keys: KeyRing, db: Database) -> None:
    """Let the client of whoever runs this know the service, and be signed in to it.

    A convenience: the service is there without it, and `spinor login` can be tried again.
    """
    import logging

    from spinor import credentials
    from spinor.errors import SpinorError
    from spinor.identity import development, service
    from spinor.identity.models import Proven

    secret = development.make_secret(settings.data_dir, os_user())
    user = development.read_secret(secret).user
    try:
        credentials.remember_server(settings.url, ca_file=settings.ca_file, development_secret_file=secret)
        kept = credentials.read_book().servers[settings.url].refresh_token
        async with db.transaction() as tx:
            if kept and await service.holds(tx, keys, kept):
                return
            tokens = await service.sign_in(tx, keys, settings.url, Proven(user=user, signed_in_by="development"))
        with credentials.changed_book() as book:
            book.servers[settings.url].refresh_token = tokens.refresh_token
        # A token of another service in the common place is not ours to replace.
        found = credentials.read_token()
        if not found or credentials.peek(found).iss in ("", settings.url):
            credentials.write_token(tokens.access_token)
    except (SpinorError, OSError) as error:
        logging.getLogger("spinor.bootstrap").warning("not signed in", extra={"user": user, "reason": str(error)})


def os_user() -> str:
    """The name of the user that runs this, in the letters that user names have here."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid{os.geteuid()}"
    return re.sub(r"[^A-Za-z0-9_.@-]", "_", name)[:63].lstrip(".@-") or f"uid{os.geteuid()}"


def machine_memory_bytes() -> int:
    """What this machine has, or what its container may use of it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return memory
    return min(memory, int(limit)) if limit.isdigit() else memory


def first_document(settings: Settings, user: str) -> str:
    """The operations data of a service on one machine: one VO, its starter as user and administrator, one site."""
    memory_mb = max(256, int(machine_memory_bytes() * _MEMORY_SHARE) // 1_000_000)
    return _FIRST_DOCUMENT.format(
        user=quoted(user),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=memory_mb,
        ce_dir=quoted(str(settings.ce_dir)),
        python=quoted(list(dict.fromkeys([sys.prefix, sys.base_prefix]))),
        storage_dir=quoted(str(settings.storage_dir)),
    )


def quoted(value: str | list[str]) -> str:
    """YAML that is this text or these texts, whatever is in them: JSON is YAML."""
    import json

    return json.dumps(value, ensure_ascii=False)


_FIRST_DOCUMENT = """\
# Operations data of this service: who may do what, and where. Change them with
#   spinor config show > operations.yaml; spinor config diff operations.yaml; spinor config apply operations.yaml
vos:
  demo:
    groups:
      demo_users:
        properties: [normal_user]
        members: [{user}]
      demo_admins:
        properties:
          - job_administrator
          - file_catalog_management
          - pilot_administrator
          - configuration_administrator
          - vo_administrator
          - operator
        members: [{user}]

users:
  {user}:
    full_name: ""

sites:
  LOCAL:
    computing_elements:
      # What one pilot gets, and how many pilots may run at a time.
      local:
        plugin: local
        cores: {cores}
        memory_bytes: {memory_mb}MB
        wall_s: 1d
        max_pilots: 2
        vos: [demo]
        options:
          directory: {ce_dir}
          # Jobs see neither homes nor /tmp of this machine; these they may read: the Python that Spinor runs with.
          node:
            visible: {python}
    storage_elements:
      local:
        plugin: file
        root: {storage_dir}
        vos: [demo]
"""
