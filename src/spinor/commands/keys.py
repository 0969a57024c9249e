"""`spinor keys`: the service's own keys, on the machine that has them. Running servers follow within half a minute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.identity.key_files import KeyFile

_DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the keys are; else SPINOR_KEYS_DIR, or `keys` of the service's data directory.",
)


@click.group()
def keys() -> None:
    """List, add and retire the keys that sign tokens and seal secrets."""


@keys.command("list")
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_keys(directory: Path | None, *, as_json: bool) -> None:
    """List the keys and what each does now."""
    import json
    import time

    from spinor.identity.key_files import read_key_files

    now, files = time.time(), read_key_files(_place(directory))
    in_use = _in_use(files, now)
    for each in files:
        facts = {
            "kid": each.kid,
            "algorithm": each.algorithm,
            "state": _state(each, in_use, now),
            "file": str(each.path),
        }
        click.echo(json.dumps(facts) if as_json else f"{each.kid:<44} {each.algorithm:<8} {facts['state']}")


@keys.command()
@_DIRECTORY
@click.option(
    "--algorithm",
    type=click.Choice(["ES256", "RS256", "A256GCM"]),
    default="ES256",
    show_default=True,
    help="A256GCM seals secrets in the database; the others sign tokens.",
)
@click.option("--now", "at_once", is_flag=True, help="Use it at once: for an old key that somebody else may have.")
def add(directory: Path | None, algorithm: str, *, at_once: bool) -> None:
    """Make a key. It is published now, and signs when all who keep our published keys have seen it."""
    import time

    from spinor.identity.key_files import add_key
    from spinor.terminal import say

    made = add_key(_place(directory), algorithm, now=time.time(), at_once=at_once)
    say(f"{made.kid} {_state(made, {made.kid}, time.time())}")


@keys.command()
@_DIRECTORY
@click.argument("kid")
def retire(directory: Path | None, kid: str) -> None:
    """Let the key KID sign no more. It verifies what it signed until that has run out; then its file is removed."""
    import time

    from spinor.identity.key_files import read_key_files, remove_key, retire_key
    from spinor.terminal import say

    place = _place(directory)
    found = retire_key(place, kid, now=time.time())
    say(f"{found.kid} {_state(found, set(), time.time())}")
    for each in read_key_files(place):
        if each.is_over(time.time()):
            remove_key(each)
            say(f"{each.kid} removed: nothing that it signed is valid any more")


@keys.command()
@_DIRECTORY
@click.option("--remove", is_flag=True, help="Remove the sealing keys that nothing is sealed with any more.")
def reseal(directory: Path | None, *, remove: bool) -> None:
    """Seal the secrets in the database again with the newest sealing key."""
    import uvloop

    uvloop.run(_reseal(_place(directory), remove=remove))


async def _reseal(place: Path, *, remove: bool) -> None:
    import time

    from spinor.db import Database
    from spinor.identity.key_files import SEALING_ALGORITHM, read_key_files, remove_key
    from spinor.identity.keys import KeyRing, seal_name
    from spinor.identity.sealed_columns import reseal_all, sealed_by
    from spinor.identity.sealing import head_of
    from spinor.terminal import say

    ring, now = KeyRing.load(place), time.time()
    async with Database.open(_database_url(), size=1) as db:
        async with db.transaction() as tx:
            for name, count in (await reseal_all(tx, ring.seal)).items():
                say(f"{name}: {count} sealed again")
        if not remove:
            return
        for each in read_key_files(place):
            key: Any = each.key
            is_other = each.algorithm == SEALING_ALGORITHM and head_of(seal_name(key)) != ring.seal.head
            if not is_other or each.signs_from > now:
                continue
            async with db.transaction() as tx:
                left = await sealed_by(tx, head_of(seal_name(key)))
            if left == 0:
                remove_key(each)
            say(f"{each.kid} {'removed' if left == 0 else f'still seals {left}'}")


def _place(directory: Path | None) -> Path:
    import os

    from spinor.embedded.layout import layout

    return directory or Path(os.environ.get("SPINOR_KEYS_DIR") or layout().root / "keys").absolute()


def _database_url() -> str:
    """Of the service that the environment names, or of the one that `spinor up` has started here."""
    import os

    from spinor.embedded.layout import layout
    from spinor.embedded.state import read_state
    from spinor.settings import BadSettings

    if url := os.environ.get("SPINOR_DATABASE_URL"):
        return url
    state = read_state(layout())
    if state is None:
        raise BadSettings("SPINOR_DATABASE_URL is not set, and `spinor up` runs no service here.")
    return state.database_url


def _in_use(files: list[KeyFile], now: float) -> set[str]:
    """The keys that sign access tokens and ID tokens, and the one that seals."""
    from spinor.identity.keys import newest

    found = (newest(files, kind, now) for kind in ("signs", "signs ID tokens", "seals"))
    return {each.kid for each in found if each is not None}


def _state(key: KeyFile, in_use: set[str], now: float) -> str:
    from datetime import UTC, datetime

    from spinor.identity.key_files import SEALING_ALGORITHM, SIGNING_ALGORITHMS, VERIFIES_S

    def at(time_s: float) -> str:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M UTC")

    does = "seals" if key.algorithm == SEALING_ALGORITHM else "signs"
    if key.retired_at is not None:
        return "over" if key.is_over(now) else f"retired; verifies until {at(key.retired_at + VERIFIES_S)}"
    if key.signs_from > now:
        return f"{'published' if does == 'signs' else 'ready'}; {does} from {at(key.signs_from)}"
    if key.kid in in_use:
        return does
    return "verifies" if key.algorithm in SIGNING_ALGORITHMS else "opens" if does == "seals" else "in use"
