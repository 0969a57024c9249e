"""Keys come and go while servers run: nothing that was signed is refused for it, and nothing sealed is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey

from spinor.commands.keys import keys as keys_command
from spinor.db import execute, fetch_rows
from spinor.identity import key_files, tokens
from spinor.identity.key_files import KeyNeeded, UnknownKey, add_key, read_key_files, retire_key
from spinor.identity.keys import LOOK_S, KeyRing
from spinor.identity.models import ACCESS_TOKEN_LIFETIME_S
from spinor.identity.oauth.capabilities import LONGEST_LIFETIME_S
from spinor.identity.sealed_columns import SEALED, SealedColumn, reseal_all, sealed_by
from spinor.identity.sealing import SealBroken
from spinor.pilots.service.life import TOKEN_LIFETIME_S as PILOT_LIFETIME_S
from tests.identity.oauth.server import EXCHANGE, REVOKE, TOKEN, TOKENS, URL, Server
from tests.identity.workbench import Clock

if TYPE_CHECKING:
    from tests.conftest import World

NOW = 1_800_000_000.0
CLAIMS = {"sub": "pilot:1", "vo": "astro", "client_id": "spinor-pilot", "scope": "pilot:act"}


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    KeyRing.create(tmp_path / "keys")
    return tmp_path / "keys"


def signed(ring: KeyRing, clock: Clock) -> str:
    return tokens.mint(ring, URL, CLAIMS, now=clock.now)


def holds(ring: KeyRing, token: str, clock: Clock) -> bool:
    try:
        return bool(tokens.read_token(ring, URL, token, clock.now))
    except tokens.TokenRefused:
        return False


def test_a_new_key_is_published_before_it_signs(directory: Path, clock: Clock) -> None:
    ring = KeyRing.load(directory, clock=clock)
    old = ring.signer.kid
    made = add_key(directory, "ES256", now=clock.now)
    clock.now += LOOK_S
    assert made.kid in {key["kid"] for key in ring.jwks()["keys"]}
    assert ring.signer.kid == old
    clock.now += key_files.SIGNS_AFTER_S - LOOK_S - 1
    assert ring.signer.kid == old
    clock.now += LOOK_S + 1
    assert ring.signer.kid == made.kid
    assert key_files.SIGNS_AFTER_S >= 2 * key_files.JWKS_LIFETIME_S


def test_a_retired_key_verifies_until_its_last_token_has_run_out(directory: Path, clock: Clock) -> None:
    ring = KeyRing.load(directory, clock=clock)
    old = ring.signer.kid
    token = tokens.mint(ring, URL, CLAIMS, now=clock.now, lifetime_s=PILOT_LIFETIME_S)
    add_key(directory, "ES256", now=clock.now, at_once=True)
    retire_key(directory, old, now=clock.now)
    clock.now += LOOK_S
    assert ring.signer.kid != old
    assert holds(ring, token, clock)
    clock.now = NOW + PILOT_LIFETIME_S + 59
    assert holds(ring, token, clock)
    assert old in ring.by_kid
    clock.now = NOW + key_files.VERIFIES_S + LOOK_S
    assert old not in ring.by_kid
    assert max(PILOT_LIFETIME_S, LONGEST_LIFETIME_S, ACCESS_TOKEN_LIFETIME_S) + 60 < key_files.VERIFIES_S


def test_every_published_key_verifies_what_it_signed_and_nothing_else(directory: Path, clock: Clock) -> None:
    """Defect A4 of DIRAC: with two keys published, every token failed, since one of them does not fit it."""
    ring, made = KeyRing.load(directory, clock=clock), []
    for _ in range(3):
        made.append(signed(ring, clock))
        add_key(directory, "ES256", now=clock.now, at_once=True)
        clock.now += LOOK_S
    made.append(signed(ring, clock))
    published = ring.jwks()
    assert len(published["keys"]) == 5
    for token in made:
        assert holds(ring, token, clock)
        assert jws.deserialize_compact(token, KeySet([key.key for key in ring.by_kid.values()]), algorithms=["ES256"])
    assert len({jws.extract_compact(token.encode()).headers()["kid"] for token in made}) == 4


def test_a_token_of_a_key_that_came_this_second_holds(directory: Path, clock: Clock) -> None:
    """Another server has taken it up before this one."""
    one, other = KeyRing.load(directory, clock=clock), KeyRing.load(directory, clock=clock)
    add_key(directory, "ES256", now=clock.now, at_once=True)
    clock.now += 2
    token = signed(KeyRing.load(directory, clock=clock), clock)
    assert one.signer.kid != other.signer.kid or holds(one, token, clock)
    assert holds(other, token, clock)


def test_the_last_key_of_its_kind_cannot_be_retired(directory: Path, clock: Clock) -> None:
    """Access tokens are ES256, ID tokens RS256: neither has a key to spare at first."""
    for algorithm in ("ES256", "RS256"):
        (old,) = (each.kid for each in read_key_files(directory) if each.algorithm == algorithm)
        with pytest.raises(KeyNeeded, match=f"keys add --algorithm {algorithm}"):
            retire_key(directory, old, now=clock.now)
        made = add_key(directory, algorithm, now=clock.now)
        with pytest.raises(KeyNeeded, match=f"No other {algorithm} key signs yet"):
            retire_key(directory, old, now=clock.now)
        assert KeyRing.load(directory, clock=clock).signer_with(algorithm).kid == old
        clock.now += key_files.SIGNS_AFTER_S
        retire_key(directory, old, now=clock.now)
        assert KeyRing.load(directory, clock=clock).signer_with(algorithm).kid == made.kid
        with pytest.raises(KeyNeeded, match="already"):
            retire_key(directory, old, now=clock.now)
    for kid in ("nobody", "", "../../etc/passwd"):
        with pytest.raises(UnknownKey):
            retire_key(directory, kid, now=clock.now)


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Without what servers of other tests say meanwhile."""
    return [record for record in caplog.records if record.name == "spinor.keys"]


@pytest.mark.parametrize("content", ["", "{", '{"kty": "EC"}', "[]", '{"spinor_signs_from": "soon"}', "\0"])
def test_a_broken_file_is_reported_and_passed_over(
    directory: Path, clock: Clock, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing.load(directory, clock=clock)
    token = signed(ring, clock)
    (directory / "99990101T000000Z-es256-broken.jwk").touch(mode=0o600)
    (directory / "99990101T000000Z-es256-broken.jwk").write_text(content)
    good = add_key(directory, "ES256", now=clock.now, at_once=True)
    clock.now += LOOK_S
    with caplog.at_level(logging.ERROR):
        assert holds(ring, token, clock)
        assert ring.signer.kid == good.kid
    (record,) = own_records(caplog)
    assert "broken.jwk" in str(record.__dict__)
    clock.now += 5 * LOOK_S
    assert holds(ring, token, clock)
    assert len(own_records(caplog)) == 1, "and once only"


def test_a_key_that_becomes_unreadable_stays_in_use(directory: Path, clock: Clock) -> None:
    ring = KeyRing.load(directory, clock=clock)
    token = signed(ring, clock)
    for path in directory.glob("*es256*"):
        path.chmod(0o644)
    clock.now += LOOK_S
    assert holds(ring, token, clock)
    assert signed(ring, clock)


def test_a_directory_that_is_gone_stops_nothing(
    directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing.load(directory, clock=clock)
    token = signed(ring, clock)
    sealed = ring.seal.close(b"secret", "x")
    directory.rename(directory.with_name("elsewhere"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.now += LOOK_S
            assert holds(ring, token, clock)
            assert ring.seal.open(sealed, "x") == b"secret"
            assert ring.find("nobody") is None
    assert caplog.records


def test_small_keys_are_refused(directory: Path) -> None:
    """Defect A1 of DIRAC: RSA keys of 1024 bits, in clear in the database."""
    small = directory / "small.jwk"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small.touch(mode=0o600)
        small.write_text(json.dumps(RSAKey.generate_key(1024).as_dict(private=True)))
        with pytest.raises(key_files.KeyRefused, match="1024 bits"):
            KeyRing.load(directory)


# -------------------------------------------------------------------------------------------------------- sealing

COLUMN = SealedColumn(("identity", "test_sealed"), "sealed", ("a", "b"), lambda a, b: f"thing {a} of {b}")


async def test_what_an_older_key_sealed_is_sealed_again(world: World, directory: Path, clock: Clock) -> None:
    ring = KeyRing.load(directory, clock=clock)
    before = ring.seal.head
    async with world.db.transaction() as tx:
        await execute(tx, "CREATE TABLE identity.test_sealed (a integer, b text, sealed bytea)")
        for number in range(1203):
            value = ring.seal.close(f"secret {number}".encode(), f"thing {number} of ada")
            parameters = {"a": number, "sealed": value if number else None}
            await execute(tx, "INSERT INTO identity.test_sealed VALUES (%(a)s, 'ada', %(sealed)s)", parameters)
    add_key(directory, "A256GCM", now=clock.now)
    clock.now += LOOK_S
    assert ring.seal.head == before, "every server must be able to open what the new key seals"
    clock.now += key_files.SEALS_AFTER_S
    assert ring.seal.head != before
    async with world.db.transaction() as tx:
        assert await sealed_by(tx, before, [COLUMN]) == 1202
        assert await reseal_all(tx, ring.seal, [COLUMN]) == {"identity.test_sealed.sealed": 1202}
        assert await reseal_all(tx, ring.seal, [COLUMN]) == {"identity.test_sealed.sealed": 0}
        assert await sealed_by(tx, before, [COLUMN]) == 0
        rows = await fetch_rows(tx, "SELECT a, sealed FROM identity.test_sealed WHERE sealed IS NOT NULL")
    for number, sealed in rows:
        assert ring.seal.open(sealed, f"thing {number} of ada") == f"secret {number}".encode()
        with pytest.raises(SealBroken):
            ring.seal.open(sealed, f"thing {number + 1} of ada")


async def test_every_sealed_column_is_known(world: World) -> None:
    async with world.db.transaction() as tx:
        found = await fetch_rows(
            tx,
            "SELECT table_schema, table_name, column_name FROM information_schema.columns "
            "WHERE data_type = 'bytea' AND column_name LIKE '%seal%'",
        )
        assert await reseal_all(tx, KeyRing.create(world.storage_root / "keys").seal)
    assert set(found) == {(*what.table, what.column) for what in SEALED}


# -------------------------------------------------------------------------------------------------------- by command


def run(directory: Path, *words: str) -> str:
    result = CliRunner().invoke(keys_command, [words[0], "--directory", str(directory), *words[1:]])
    assert result.exit_code == 0, result.output + repr(result.exception)
    assert '"d"' not in result.output
    assert '"k"' not in result.output
    return result.stdout + result.stderr


def test_the_commands(directory: Path) -> None:
    def listed() -> dict[str, dict[str, Any]]:
        lines = run(directory, "list", "--json").splitlines()
        return {each["kid"]: each for each in map(json.loads, lines)}

    before = listed()
    assert {each["state"] for each in before.values()} == {"signs", "seals", "in use"}
    signer = KeyRing.load(directory).signer.kid
    run(directory, "add")
    (added,) = listed().keys() - before.keys()
    assert "signs from" in listed()[added]["state"]
    run(directory, "add", "--now")
    (at_once,) = listed().keys() - before.keys() - {added}
    assert listed()[at_once]["state"] == "signs"
    assert listed()[signer]["state"] == "verifies"
    assert "verifies until" in run(directory, "retire", signer[:20])
    assert "verifies until" in listed()[signer]["state"]
    assert KeyRing.load(directory).signer.kid == at_once
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    run(directory, "add", "--algorithm", "A256GCM", "--now")
    assert [each["state"] for each in listed().values() if each["algorithm"] == "A256GCM"] == ["opens", "seals"]


def test_resealing_by_command(world: World, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPINOR_DATABASE_URL", world.db.url)
    run(directory, "add", "--algorithm", "A256GCM", "--now")
    assert len(list(directory.glob("*a256gcm*"))) == 2
    assert "removed" in run(directory, "reseal", "--remove")
    assert len(list(directory.glob("*a256gcm*"))) == 1


# -------------------------------------------------------------------------------------------------------- under load


async def test_no_request_is_refused_while_keys_come_and_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign in, exchange, refresh, look and end without a pause, while the signing key changes again and again."""
    monkeypatch.setattr("spinor.identity.keys.LOOK_S", 0)
    stop, done = asyncio.Event(), [0]

    async def work() -> None:
        while not stop.is_set():
            given = await server.sign_in()
            exchange = {
                "client_id": "spinor-cli", "grant_type": EXCHANGE, "subject_token": given.access_token,
                "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            }  # fmt: skip
            narrow = await server.form(TOKEN, exchange)
            refresh = {"client_id": "spinor-cli", "grant_type": "refresh_token", "refresh_token": given.refresh_token}
            renewed = await server.form(TOKEN, refresh)
            seen = [await server.get("/api/auth/whoami", each.body["access_token"]) for each in (narrow, renewed)]
            wanted = {"audience": "https://ce.example.org", "scope": "compute.read"}
            stored = await server.post(TOKENS, given.access_token, wanted)
            ended = await server.form(REVOKE, {"client_id": "spinor-cli", "token": given.access_token})
            answers = [narrow, renewed, *seen, stored, ended]
            assert [answer.status for answer in answers] == [200] * len(answers), answers
            done[0] += 1

    workers = [asyncio.create_task(work()) for _ in range(4)]
    directory, kids = server.settings.keys_dir, set()
    for turn in range(12):
        before = done[0]
        while done[0] < before + 4 and not any(worker.done() for worker in workers):  # noqa: ASYNC110  A number counts.
            await asyncio.sleep(0.01)
        old = server.keys.signer.kid
        kids.add(old)
        now = server.keys._clock()
        add_key(directory, "ES256", now=now, at_once=True)
        retire_key(directory, old, now=now)
        if turn == 6:
            (directory / "broken.jwk").write_text("{")
            await asyncio.sleep(0.2)
            (directory / "broken.jwk").unlink()
    stop.set()
    await asyncio.gather(*workers)
    assert len(kids) == 12
    assert done[0] >= 48
