"""Proxy files: what is in them, where they go, and where they do not."""

import os
from pathlib import Path

import pytest
from cryptography import x509

from spinor import connect
from spinor.credentials import UnsafeFile
from spinor.errors import BadInput, SpinorError
from spinor.notebook.proxies import ProxyFile, asked_attributes, proxy_init
from tests.acceptance.conftest import Service
from tests.notebook.community import give_proxies
from tests.notebook.conftest import Notebook

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="session")
def giving(service: Service) -> Service:
    give_proxies(service)
    return service


def test_a_proxy_goes_where_grid_tools_look_and_is_ours_alone(
    giving: Service, notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "x509up"
    monkeypatch.setenv("X509_USER_PROXY", str(place))
    made = notebook.run("%proxy --voms demo --hours 2")
    assert isinstance(made, ProxyFile)
    assert place.stat().st_mode & 0o777 == 0o600
    assert 1.9 < made.hours <= 2
    leaf, *_ = x509.load_pem_x509_certificates(place.read_bytes())
    assert made.expires_at == leaf.not_valid_after_utc
    assert made.is_limited
    assert "/demo/Role=user" in "".join(made.fqans)
    shown = notebook.shown(made)
    assert made.subject in shown["text/plain"]
    key = place.read_text().partition("PRIVATE KEY-----\n")[2][:40]
    assert key
    assert not any(key in text or "PRIVATE" in text for text in shown.values())


def test_the_file_before_is_replaced_in_one_step(giving: Service, notebook: Notebook, tmp_path: Path) -> None:
    place = tmp_path / "proxy"
    place.write_text("the old one")
    place.chmod(0o644)
    with place.open() as opened:
        proxy_init(connect().client, out=str(place))
        assert opened.read() == "the old one"  # Whoever reads it reads one or the other, never a part.
    assert place.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["proxy"]


def test_a_link_is_not_followed(giving: Service, notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(UnsafeFile, match="is a link"):
        proxy_init(connect().client, out=str(tmp_path / "link"))
    assert (tmp_path / "elsewhere").read_text() == "precious"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a directory away")
def test_a_directory_of_others_is_refused(giving: Service, notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(UnsafeFile, match="Others may change"):
        proxy_init(connect().client, out=str(tmp_path / "theirs" / "proxy"))


def test_a_directory_is_no_place(notebook: Notebook, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a directory"):
        proxy_init(connect().client, out=str(tmp_path))


def test_the_command_shows_no_key(giving: Service, tmp_path: Path) -> None:
    place = tmp_path / "proxy.pem"
    done = giving.ok("notebook", "proxy-init", "--out", str(place), "--hours", "1")
    assert "limited" in done.out
    assert "PRIVATE" not in done.out + done.err
    (shown,) = giving.ok("notebook", "proxy-init", "--out", str(place), "--json").models
    assert sorted(shown) == ["expires_at", "fqans", "path", "subject"]
    assert giving.run("notebook", "proxy-init", "--hours", "13").code == 2
    refused = giving.run("notebook", "proxy-init", "--voms", "demo:Role=user", "--out", str(place))
    assert refused.code == 2
    assert "VO:/VO/Role" in refused.err


@pytest.mark.parametrize("words", [["demo:Role=pilot"], [":/demo"], ["demo", "astro"]])
def test_attributes_are_of_one_vo(words: list[str]) -> None:
    with pytest.raises(BadInput):
        asked_attributes(words)


def test_attributes_are_read_as_voms_proxy_init_has_them() -> None:
    asked = asked_attributes(["demo:/demo/Role=pilot", "demo:/demo/survey"])
    assert asked is not None
    assert (asked.vo, asked.fqans) == ("demo", ["/demo/Role=pilot", "/demo/survey"])
    assert asked_attributes([]) is None


def test_without_a_way_to_a_proxy_the_remedy_is_told(notebook: Notebook, giving: Service) -> None:
    with pytest.raises(SpinorError) as error:
        notebook.run("%proxy --voms other --out proxy.pem")
    assert not Path("proxy.pem").exists()
    assert len(error.value.message) > 20
