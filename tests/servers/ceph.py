"""A real S3 service: Ceph's RADOS gateway over a small cluster in memory. It verifies signatures; emulators do not."""

import contextlib
import secrets
import subprocess
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import obstore
from obstore.store import S3Store

from tests.servers.process import ServerFailed, environ, found, free_port, listens, run, running, workplace

_SETTINGS = """[global]
fsid = {fsid}
run dir = {place}
keyring = {place}/keyring
log file = {place}/$name.log
admin socket = {place}/$name.asok
pid file = {place}/$name.pid
crash dir = {place}/crash
mon host = v2:127.0.0.1:{mon_port}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind before connect = true
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 0
osd objectstore = memstore
memstore device bytes = 1073741824
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw run sync thread = false
rgw enable usage log = false
[mon.a]
host = localhost
mon data = {place}/mon
[osd.0]
osd data = {place}/osd
[mgr.x]
mgr data = {place}/mgr
"""
_CAPS = {
    "mon.": ("mon", "allow *"),
    "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
    "client.rgw.a": ("mon", "allow rwx", "osd", "allow rwx", "mgr", "allow rw"),
    "mgr.x": ("mon", "allow profile mgr", "osd", "allow *"),
    "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
}


class S3Server(NamedTuple):
    endpoint: str
    key: str
    secret: str
    credentials_file: Path

    def address(self, bucket: str, prefix: str = "", credentials_file: Path | None = None) -> str:
        """The setting SPINOR_BLOBS for a bucket of this server."""
        file = credentials_file or self.credentials_file
        query = urllib.parse.urlencode({"endpoint": self.endpoint, "credentials_file": str(file)})
        return f"s3://{bucket}/{prefix}?{query}"


@contextlib.contextmanager
def ceph_server() -> Iterator[S3Server]:
    """An S3 service until the end of the block. Buckets are made by `new_bucket`."""
    with workplace("ceph") as place:
        port, mon_port = free_port(), free_port()
        for name in ("mon", "osd", "mgr", "crash"):
            (place / name).mkdir()
        conf, fsid = place / "ceph.conf", str(uuid.uuid4())
        conf.write_text(_SETTINGS.format(fsid=fsid, place=place, port=port, mon_port=mon_port))
        cluster = _Cluster(place, conf)
        cluster.make_keys()
        keyring, monitors = str(place / "keyring"), str(place / "map")
        cluster.run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "--fsid", fsid, monitors)
        cluster.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keyring)
        with contextlib.ExitStack() as stack:
            stack.enter_context(cluster.running("ceph-mon", "a", cluster.answers))
            cluster.run("ceph", "auth", "import", "-i", keyring)
            osd_id = str(uuid.uuid4())
            cluster.run("ceph", "osd", "new", osd_id)
            cluster.run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_id)
            stack.enter_context(cluster.running("ceph-osd", "0", lambda: "1 up" in cluster.run("ceph", "osd", "stat")))
            stack.enter_context(cluster.running("ceph-mgr", "x", lambda: True))
            gateway = cluster.running("radosgw", "client.rgw.a", lambda: listens(port))
            stack.enter_context(gateway)
            key, secret = secrets.token_hex(10), secrets.token_hex(20)
            words = ["user", "create", "--uid=spinor", "--display-name=Spinor"]
            cluster.run("radosgw-admin", *words, f"--access-key={key}", f"--secret-key={secret}")
            yield S3Server(f"http://127.0.0.1:{port}", key, secret, write_credentials(place / "s3", key, secret))


def write_credentials(path: Path, key: str, secret: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    return path


def new_bucket(server: S3Server) -> str:
    """A bucket of its own for a test: a signed PUT of nothing under its name, as the library has no call for that."""
    name = f"test-{secrets.token_hex(6)}"
    store = S3Store(
        name, endpoint=server.endpoint, region="us-east-1", access_key_id=server.key, secret_access_key=server.secret,
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip
    answer = httpx.put(obstore.sign(store, "PUT", "", timedelta(minutes=5)), trust_env=False)
    if answer.status_code != 200:
        raise ServerFailed(f"the bucket was not made: {answer.status_code} {answer.text}")
    return name


class _Cluster:
    def __init__(self, place: Path, conf: Path) -> None:
        self.place = place
        self._env = environ(place, CEPH_CONF=str(conf))

    def run(self, program: str, *words: str) -> str:
        return run([found(program), *words], self._env)

    def make_keys(self) -> None:
        keyring = str(self.place / "keyring")
        create = ["--create-keyring"]
        for name, caps in _CAPS.items():
            pairs = [word for n in range(0, len(caps), 2) for word in ("--cap", caps[n], caps[n + 1])]
            self.run("ceph-authtool", keyring, *create, "--gen-key", "-n", name, *pairs)
            create = []

    def answers(self) -> bool:
        try:
            self.run("ceph", "--connect-timeout", "2", "health")
        except ServerFailed:
            return False
        return True

    def running(
        self, program: str, name: str, is_ready: Callable[[], bool]
    ) -> "contextlib.AbstractContextManager[subprocess.Popen[bytes]]":
        option = ["-n", name] if program == "radosgw" else ["-i", name]
        argv = [found(program), "-f", *option]
        return running(argv, is_ready, self.place / f"{program}.out", env=self._env, wait_s=120)
