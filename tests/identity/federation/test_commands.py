"""`spinor registration` and `spinor identity`, as processes that speak to a service."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from spinor import cli
from spinor.configuration import service as configuration
from spinor.identity import service as identity
from tests.identity.federation.workbench import MEMBER

if TYPE_CHECKING:
    from tests.identity.federation.workbench import Spinor
    from tests.servers.oidc import OIDCServer

DOCS = Path(__file__).parents[3] / "docs" / "how-to"
PAGES = ("federate-a-provider.md", "sign-in-with-check-in.md")


class Terminal:
    """Somebody's, who is signed in."""

    def __init__(self, spinor: Spinor, token: str, home: Path) -> None:
        self.environ = {
            "SPINOR_URL": spinor.url, "SPINOR_CA_FILE": str(spinor.authority.ca_file), "BEARER_TOKEN": token,
            "SPINOR_CONFIG_DIR": str(home), "HOME": str(home), "PATH": "/usr/bin:/bin", "BROWSER": "true",
        }  # fmt: skip

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("spinor")),
            *words,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *words: str) -> tuple[int | None, str, str]:
        process = await self.start(*words)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()


async def terminal(spinor: Spinor, home: Path, *who: str) -> Terminal:
    async with spinor.db.transaction() as tx:
        caller = await identity.caller_for(tx, *who)
        token = await identity.access_token_for(tx, spinor.keys, spinor.url, caller)
    return Terminal(spinor, token, home)


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_administrators_decide_at_the_terminal(
    spinor: Spinor, oidc_server: OIDCServer, sub: str, tmp_path: Path
) -> None:
    client = oidc_server.add_client(f"commands-{spinor.url[-5:]}", [spinor.callback("one")])
    await spinor.provide("one", oidc_server.issuer, client, registration="approval")
    names = ("grace", "lise")
    for name in names:
        oidc_server.add_user(f"{name}-{sub}", preferred_username=name, name=f"{name} \x1b[31mred")
        async with spinor.person() as person:
            await person.sign_in(oidc_server, f"{name}-{sub}", "one")
            await person.form("/register", vo="astro", message=f"I am {name}.")
    alan = await terminal(spinor, tmp_path, "alan", "astro", "astro_managers")
    code, out, _ = await alan.run("registration", "list", "-q")
    newer, older = out.split()
    code, out, _ = await alan.run("registration", "show", older)
    assert code == 0
    assert "I am grace." in out
    assert "\x1b" not in out
    code, out, _ = await alan.run("registration", "approve", older, "--json")
    assert (code, json.loads(out)["user"]) == (0, "grace")
    code, out, _ = await alan.run("registration", "refuse", newer, "--reason", "Not yet.", "--json")
    assert (code, json.loads(out)["reason"]) == (0, "Not yet.")
    code, _, err = await alan.run("registration", "approve", older)
    assert (code, "no such registration is waiting" in err) == (3, True)
    code, out, _ = await alan.run("registration", "list", "-q")
    assert out == ""
    code, out, _ = await alan.run("registration", "list", "--all", "-q")
    assert out.split() == [newer, older]
    code, out, _ = await alan.run("registration", "log", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == [
        "registration-refused", "registration-approved", "registration-asked", "registration-asked",
    ]  # fmt: skip
    code, out, _ = await alan.run("registration", "log", "--user", "grace")
    assert (code, "registration-approved" in out, "refused" in out) == (0, True, False)
    bea = await terminal(spinor, tmp_path, "bea", "bio", "bio_managers")
    assert (await bea.run("registration", "log", "-q"))[1] == ""
    ada = await terminal(spinor, tmp_path, "ada", "astro", "astro_users")
    assert (await ada.run("registration", "list"))[0] == 4


@pytest.mark.acceptance
@pytest.mark.peer("oidc-provider")
async def test_a_login_is_linked_from_the_terminal(
    spinor: Spinor, oidc_server: OIDCServer, another_server: OIDCServer, sub: str, tmp_path: Path
) -> None:
    for name, server in (("one", oidc_server), ("two", another_server)):
        client = server.add_client(f"commands-{spinor.url[-5:]}", [spinor.callback(name)])
        await spinor.provide(name, server.issuer, client)
        server.add_user(sub, preferred_username="grace", eduperson_entitlement=[MEMBER])
    async with spinor.person() as grace:
        await grace.sign_in(oidc_server, sub, "one")
        at = await terminal(spinor, tmp_path, "grace", "astro", "astro_users")
        code, _, err = await at.run("identity", "link")
        assert (code, "one, two" in err) == (2, True)
        process = await at.start("identity", "link", "two")
        assert process.stderr is not None
        assert b"Open this page" in await process.stderr.readline()
        page = (await process.stderr.readline()).decode().strip()
        begun = await grace.form(page)
        back = await grace.come_back(another_server, begun.headers["location"], sub, "two")
        assert (await grace.http.get(back)).status_code == 303
        _, err_bytes = await process.communicate()
        assert (process.returncode, f"Linked: {sub}" in err_bytes.decode()) == (0, True)
    code, out, _ = await at.run("identity", "list", "-q")
    assert out.split() == [oidc_server.issuer, another_server.issuer]
    assert (await at.run("identity", "unlink", "https://other.example.org"))[0] == 3
    assert (await at.run("identity", "unlink", another_server.issuer))[0] == 0
    code, _, err = await at.run("identity", "unlink", oidc_server.issuer)
    assert (code, "only way to sign in" in err) == (5, True)


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_pages_are_there(page: str) -> None:
    text = (DOCS / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [line.split() for block in blocks for line in block.splitlines() if line.startswith("spinor ")]
    commands += [words.split() for words in re.findall(r"`(spinor [a-z][^`…]*)`", text)]
    assert len(commands) > 5
    for words in commands:
        command: click.Command = cli.root
        context = click.Context(command)
        rest = words[1:]
        while isinstance(command, click.Group) and rest:
            found = command.get_command(context, rest[0])
            if found is None and rest[0] in ("server", "worker"):
                break
            assert found is not None, " ".join(words)
            command, rest = found, rest[1:]
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options, " ".join(words)


def test_the_examples_of_the_page_are_right() -> None:
    text = (DOCS / "federate-a-provider.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    providers = [block.removeprefix("identity_providers:\n") for block in blocks if "issuer:" in block]
    assert len(providers) == 4
    exchange = next(block for block in blocks if "exchange_clients" in block)
    document = (
        "vos:\n"
        "  vo.example.org: {groups: {users: {properties: [normal_user]}}}\n"
        "  astro:\n    groups:\n"
        "      astro_users: {properties: [normal_user]}\n      astro_production: {properties: [normal_user]}\n"
        "      admins: {properties: [configuration_administrator], members: [ada]}\n"
        "users: {ada: {}}\nidentity_providers:\n" + "".join(providers) + exchange
    )
    assert configuration.validate(document).faults == []
