"""What `spinor bootstrap` starts a service with, and the commands that need no service."""

import json
import os
import sys
from pathlib import Path

import pytest

from spinor import cli
from spinor.access import SCOPES_BY_PROPERTY, scopes_of
from spinor.commands.bootstrap import first_document, machine_memory_bytes, os_user
from spinor.commands.server import listen
from spinor.configuration.checking import read_document
from spinor.settings import BadSettings, Settings
from tests.configuration.test_reading import GOOD


def settings_in(directory: str) -> Settings:
    environ = {"SPINOR_DATA_DIR": directory, "SPINOR_DATABASE_URL": "postgresql://x", "SPINOR_URL": "https://x"}
    return Settings.from_environment(environ)


@pytest.mark.parametrize("user", ["root", "ada", "yes", "null", "123", "_apt", "a.b@c"])
@pytest.mark.parametrize("directory", ["/srv/spinor", '/tmp/with "quotes": {and} more #1', "/tmp/é\u2028", "/tmp/a\\b"])
def test_the_first_document_is_valid_for_whoever_starts_it_wherever(user: str, directory: str) -> None:
    settings = settings_in(directory)
    document = read_document(first_document(settings, user))
    assert list(document.users) == [user]
    site = document.sites["LOCAL"]
    assert site.storage_elements["local"].root == str(settings.storage_dir)
    options = site.computing_elements["local"].options
    assert options["directory"] == str(settings.ce_dir)
    assert sys.prefix in options["node"]["visible"]
    assert site.computing_elements["local"].cores <= (os.cpu_count() or 1)
    groups = document.vos["demo"].groups
    assert scopes_of(groups["demo_users"].properties) >= {"jobs:submit", "files:write"}
    assert scopes_of(groups["demo_admins"].properties) >= {"config:write", "jobs:manage", "files:manage"}


def test_the_machine_is_looked_at() -> None:
    assert 0 < machine_memory_bytes() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert os_user() in read_document(first_document(settings_in("/srv/spinor"), os_user())).users


@pytest.mark.parametrize("address", ["", "8443", "localhost:", "localhost:x", "localhost:70000", "nowhere.invalid:1"])
def test_an_address_that_cannot_be_listened_on(address: str) -> None:
    with pytest.raises(BadSettings):
        listen(address).close()


def test_a_port_that_is_taken_is_named() -> None:
    with listen("127.0.0.1:0") as taken:
        with pytest.raises(BadSettings, match=f"127.0.0.1:{taken.getsockname()[1]}: Address already in use"):
            listen(f"127.0.0.1:{taken.getsockname()[1]}")


def test_validate_works_without_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(GOOD.replace("[ada]", "[bob]"))
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    assert cli.run(["config", "validate", str(tmp_path / "good.yaml")]) == 0
    assert cli.run(["config", "validate", str(tmp_path / "absent.yaml")]) == 3
    assert cli.run(["config", "validate", str(tmp_path / "latin.yaml")]) == 2
    capsys.readouterr()
    assert cli.run(["config", "validate", str(tmp_path / "bad.yaml")]) == 2
    assert "line 6: vos.astro.groups.admins.members[0]: there is no user 'bob'" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Spinor operations data"


def test_the_reference_page_is_true() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "configuration.md").read_text()
    document = read_document(page.split("```yaml\n", 1)[1].split("```", 1)[0])
    assert list(document.vos) == ["astro"]
    for name, scopes in SCOPES_BY_PROPERTY.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        said = {scope for scope in scopes if f"`{scope}`" in row}
        assert said == scopes or "those of `job_monitor`" in row
        assert said | SCOPES_BY_PROPERTY["job_monitor"] >= scopes
