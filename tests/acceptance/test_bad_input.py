"""Bad input and broken worlds, as a person meets them: one clear sentence, the right code, nothing half-written."""

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .conftest import Service

pytestmark = pytest.mark.acceptance

DESCRIPTIONS = [
    ("{", 2, "not"),
    ("executable: [", 2, "line"),
    ("arguments: [a]", 2, "executable"),
    ("executable: 5", 2, "executable"),
    ("{executable: 'true', coers: 2}", 2, "cores"),
    ("{executable: 'true', cores: 0}", 2, "cores"),
    ("{executable: 'true', memory_bytes: lots}", 2, "memory_bytes"),
    ("{executable: 'true', wall_s: -1h}", 2, "wall_s"),
    ("{executable: 'true', priority: 99}", 2, "priority"),
    ("{executable: 'true', site: NOWHERE}", 3, "NOWHERE"),
    ("{executable: 'true', input_data: [/demo/absent]}", 3, "/demo/absent"),
    ("{executable: 'true', input_data: [/other/file]}", 4, "demo"),
    ("{executable: 'true', output_data: [{path: a, lfn: /demo/a, se: nowhere}]}", 3, "nowhere"),
    ("{executable: 'true', output_data: [{path: a, lfn: /other/a, se: local}]}", 4, "/other"),
    ("{executable: 'true', output_data: [{path: ../a, lfn: /demo/a, se: local}]}", 2, "path"),
    ("{executable: 'true', input_sandbox: [/absent/file]}", 3, "/absent/file"),
    ("{executable: 'true', arguments: ['{nmae}'], parameters: {name: [a]}}", 2, "name"),
    ("{executable: 'true', parameters: {a: [1], b: [1, 2]}}", 2, "parameters"),
]


@pytest.mark.parametrize(("text", "code", "fragment"), DESCRIPTIONS, ids=[d[0][:60] for d in DESCRIPTIONS])
def test_bad_job_description(service: Service, tmp_path: Path, text: str, code: int, fragment: str) -> None:
    (tmp_path / "job.yaml").write_text(text)
    before = service.ok("job", "list", "-q", "--limit", "1").out
    done = service.run("job", "submit", str(tmp_path / "job.yaml"))
    assert (done.code, done.out) == (code, ""), done.err
    assert fragment in done.err
    assert service.ok("job", "list", "-q", "--limit", "1").out == before, "something was submitted"


NAMES = ["new\nline", "quote'\"", "emoji 🚀", "x" * 4000, "..", ".", "tab\t"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_strange_names_are_kept_or_refused_whole(service: Service, tmp_path: Path, name: str) -> None:
    (tmp_path / "content").write_text("strange")
    lfn = f"/demo/strange/{name}"
    done = service.run("file", "put", str(tmp_path / "content"), lfn, "--se", "local")
    if name in {"..", "."} or len(name) > 255:
        assert done.code in {2, 4}
        assert "name" in done.err or "'.." in done.err or "'.'" in done.err
    else:
        assert done.code == 0, done.err
        service.ok("file", "get", lfn, str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "strange"
        assert "\n" not in service.ok("file", "ls", "/demo/strange").lines[0]
        service.ok("file", "rm", lfn)


@pytest.mark.parametrize(
    ("words", "code", "fragment"),
    [
        (["file", "stat", "/demo/absent"], 3, "/demo/absent"),
        (["file", "ls", "/demo/absent-directory"], 3, "absent-directory"),
        (["file", "ls", "/elsewhere"], 4, "demo"),
        (["file", "get", "/demo/absent", "here"], 3, "/demo/absent"),
        (["file", "put", "/absent", "/demo/x", "--se", "local"], 3, "/absent"),
        (["file", "put", "/etc/hostname", "/demo/x", "--se", "nowhere"], 3, "nowhere"),
        (["file", "put", "/etc/hostname", "demo/x", "--se", "local"], 2, "/"),
        (["file", "find", "/demo", "size >"], 2, "character"),
        (["file", "register-directory", "/absent", "/demo/x", "--se", "local"], 3, "/absent"),
        (["file", "register-directory", "/etc", "/demo/x", "--se", "local"], 2, "root"),
        (["job", "list", "--where", "stauts=failed"], 2, "status"),
        (["job", "list", "--where", "status=fialed"], 2, "failed"),
        (["job", "show", "999999999"], 3, "999999999"),
        (["job", "log", "999999999"], 3, "999999999"),
        (["job", "kill", "x"], 2, "x"),
        (["job", "kill", "999999999"], 3, "999999999"),
        (["pilot", "show", "999999999"], 3, "999999999"),
        (["config", "validate", "/absent.yaml"], 3, "/absent.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_command(service: Service, words: list[str], code: int, fragment: str) -> None:
    done = service.run(*words)
    assert done.code == code, done.err
    assert fragment in done.err


def answer(service: Service, path: str, body: bytes, token: str | None = None) -> tuple[int, dict[str, object]]:
    token = token or (service.work / "token").read_text().strip()
    context = ssl.create_default_context(cafile=str(next((service.work / "data").rglob("ca.pem"))))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(service.url + path, body, headers)
    try:
        with urllib.request.urlopen(request, context=context) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        assert error.headers["Content-Type"] == "application/problem+json"
        problem: dict[str, object] = json.loads(error.read())
        error.close()
        return error.code, problem


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"lfns": "no list"}', b'{"x": 1}'])
def test_a_body_that_is_not_what_it_should_be(service: Service, body: bytes) -> None:
    status, problem = answer(service, "/api/files/stat", body)
    assert status == 422
    assert problem["code"] == "bad-body"
    assert problem["request_id"]


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "x" * 100_000])
def test_a_token_that_is_none(service: Service, token: str) -> None:
    status, problem = answer(service, "/api/files/stat", b'{"lfns": []}', token or "-")
    assert status in {401, 431, 400}
    assert "detail" in problem


def test_an_expired_token_without_a_refresh_token_names_the_remedy(service: Service, tmp_path: Path) -> None:
    import base64

    claims = base64.urlsafe_b64encode(json.dumps({"iss": service.url, "exp": 1}).encode()).decode().rstrip("=")
    (tmp_path / "expired").write_text(f"e30.{claims}.x")
    (tmp_path / "expired").chmod(0o600)
    ca = str(next((service.work / "data").rglob("ca.pem")))
    done = service.run(
        "job", "list", SPINOR_CONFIG_DIR=str(tmp_path), SPINOR_URL=service.url, SPINOR_CA_FILE=ca,
        BEARER_TOKEN_FILE=str(tmp_path / "expired"),
    )  # fmt: skip
    assert done.code == 4
    assert "spinor login" in done.err


def test_a_certificate_authority_that_is_unknown_is_named(service: Service, tmp_path: Path) -> None:
    done = service.run("job", "list", SPINOR_CONFIG_DIR=str(tmp_path), SPINOR_URL=service.url, BEARER_TOKEN="x")
    assert done.code == 1
    assert "SPINOR_CA_FILE" in done.err


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a small file system")
def test_a_full_storage_leaves_nothing_behind(service: Service, tmp_path: Path) -> None:
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        document = service.ok("config", "show").out
        element = f"      small: {{plugin: file, root: {small}, vos: [demo]}}\n"
        (tmp_path / "operations.yaml").write_text(
            document.replace("    storage_elements:\n", "    storage_elements:\n" + element, 1)
        )
        service.ok("config", "apply", str(tmp_path / "operations.yaml"))
        (tmp_path / "large").write_bytes(os.urandom(200_000))
        done = service.run("file", "put", str(tmp_path / "large"), "/demo/large", "--se", "small")
        assert done.code in {1, 75}, done.err
        assert "full" in done.err or "space" in done.err
        assert service.run("file", "stat", "/demo/large").code == 3
        assert not [path for path in small.rglob("*") if path.is_file()]
        service.ok("config", "rollback", "1")
    finally:
        subprocess.run(["umount", str(small)], check=True)
