"""Commands in the terminal of a hub, which nobody has signed in."""

import json
from pathlib import Path

import pytest

from spinor import credentials
from tests.acceptance.conftest import Done, Service
from tests.notebook.community import Lent
from tests.notebook.lending import lent_token

pytestmark = [pytest.mark.acceptance, pytest.mark.peer("oidc-provider")]


class Terminal:
    """Runs commands with what a hub lends to them."""

    def __init__(self, service: Service, lent: Lent, folder: Path) -> None:
        self._service = service
        self.bearer, self.config = folder / "bearer", folder / "config"
        self._environ = {
            "SPINOR_URL": service.url,
            "SPINOR_CA_FILE": str(service.work / "data" / "tls" / "ca.pem"),
            "SPINOR_CONFIG_DIR": str(self.config),
            "BEARER_TOKEN_FILE": str(self.bearer),
            "SECRETS_MOUNT_PATH": str(lent.file.parent),
        }

    def run(self, *words: str, **environ: str) -> Done:
        return self._service.run(*words, **{**self._environ, **environ})

    def ok(self, *words: str) -> Done:
        return self._service.ok(*words, **self._environ)


@pytest.fixture
def terminal(service: Service, lent: Lent, tmp_path: Path) -> Terminal:
    return Terminal(service, lent, tmp_path)


def test_every_command_is_signed_in_and_keeps_nothing(terminal: Terminal, lent: Lent) -> None:
    lent.put(lent.token("carl"))
    assert json.loads(terminal.ok("whoami", "--json").out)["user"] == "carl"
    terminal.ok("job", "list")
    assert not terminal.bearer.exists()
    assert not (terminal.config / "client.json").exists()


def test_without_a_token_the_remedy_is_named(terminal: Terminal, lent: Lent) -> None:
    done = terminal.run("job", "list")
    assert done.code == 4
    assert "run `spinor login`" in done.err
    lent.put(lent_token(lives_s=-60))
    done = terminal.run("job", "list", JUPYTERHUB_API_TOKEN="key")
    assert done.code == 4
    assert "has expired and was not renewed; reload the page of the notebook" in done.err


def test_a_token_of_somebody_else_opens_nothing(terminal: Terminal, lent: Lent) -> None:
    lent.put(lent_token())
    done = terminal.run("job", "list")
    assert done.code == 4
    assert "is not accepted" in done.err


def test_the_login_keeps_spinors_token_and_never_the_hubs(terminal: Terminal, lent: Lent, tmp_path: Path) -> None:
    token = lent.token("carl")
    lent.put(token)
    said = terminal.ok("notebook", "login", "--group", "demo_users")
    assert "as carl, group demo_users" in said.err
    kept = terminal.bearer.read_text().strip()
    assert terminal.bearer.stat().st_mode & 0o777 == 0o600
    assert token not in said.out + said.err + kept
    assert all(token not in path.read_text() for path in terminal.config.iterdir())
    # It is what the commands use from now on, without the hub.
    lent.file.unlink()
    assert json.loads(terminal.ok("whoami", "--json").out)["user"] == "carl"
    assert terminal.bearer.read_text().strip() == kept


def test_a_kept_token_that_has_run_out_is_replaced(terminal: Terminal, lent: Lent, service: Service) -> None:
    lent.put(lent.token("carl"))
    credentials.write_secret(terminal.bearer, lent_token(issuer=service.url, lives_s=-60).encode())
    terminal.ok("job", "list")
    fresh = terminal.bearer.read_text().strip()
    assert credentials.is_fresh(fresh, service.url)
    terminal.ok("job", "list")
    assert terminal.bearer.read_text().strip() == fresh


def test_behind_a_kept_token_that_is_refused_the_hubs_is_taken(
    terminal: Terminal, lent: Lent, service: Service
) -> None:
    lent.put(lent.token("carl"))
    credentials.write_secret(terminal.bearer, lent_token(issuer=service.url).encode())
    assert json.loads(terminal.ok("whoami", "--json").out)["user"] == "carl"
    lent.file.unlink()
    done = terminal.run("whoami")
    assert done.code == 4
    assert "Traceback" not in done.err


def test_a_link_in_the_place_of_the_token_is_not_followed(terminal: Terminal, lent: Lent, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a private key")
    lent.file.symlink_to(tmp_path / "key")
    done = terminal.run("job", "list")
    assert done.code == 1
    assert "not followed" in done.err
    assert "a private key" not in done.err
