"""The real VOMS server with its database, for one VO with the members, groups and roles that a test wants."""

import contextlib
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.servers.authority import Authority, Credential
from tests.servers.process import ServerFailed, environ, found, free_port, listens, run, running, workplace

_TABLES = Path("/usr/share/voms/voms-mysql.data")
_MARIADB = """[mysqld]
{user}
datadir = {place}/data
socket = {place}/socket
pid-file = {place}/mariadbd.pid
skip-networking
skip-log-bin
innodb_buffer_pool_size = 64M
innodb_log_file_size = 16M
innodb_flush_log_at_trx_commit = 0
"""
_ACCOUNT = """CREATE DATABASE voms;
CREATE USER voms@localhost IDENTIFIED BY '{password}';
GRANT ALL ON voms.* TO voms@localhost;
"""
_FIRST_ROWS = """INSERT INTO ca (cid, ca) VALUES (1, '{ca}');
INSERT INTO `groups` (gid, dn, parent, must) VALUES (1, '/{vo}', 1, 1);
INSERT INTO seqnumber VALUES ('00');
INSERT INTO version VALUES (2);
"""
_USER = """INSERT INTO usr (dn, ca, cn) SELECT '{dn}', 1, '{dn}' FROM DUAL
 WHERE NOT EXISTS (SELECT 1 FROM usr WHERE dn = '{dn}');"""
_GROUP = "INSERT IGNORE INTO `groups` (dn, parent, must) SELECT '{group}', gid, 1 FROM `groups` WHERE dn = '{parent}';"
_MEMBERSHIP = """INSERT INTO m (userid, gid) SELECT userid, gid FROM usr, `groups` g
 WHERE usr.dn = '{dn}' AND g.dn = '{group}' AND NOT EXISTS
 (SELECT 1 FROM m WHERE m.userid = usr.userid AND m.gid = g.gid AND m.rid IS NULL);"""
_ROLE = """INSERT IGNORE INTO roles (role) VALUES ('{role}');
INSERT IGNORE INTO m (userid, gid, rid) SELECT userid, gid, rid FROM usr, `groups` g, roles
 WHERE usr.dn = '{dn}' AND g.dn = '{group}' AND role = '{role}';"""


class VOMSServer:
    """Changes hold from the next request on."""

    def __init__(self, place: Path, authority: Authority, vo: str) -> None:
        self.vo = vo
        self.authority = authority
        self.port = free_port()
        self.host = authority.host()
        self.vomses = place / "vomses"
        self.vomsdir = place / "vomsdir"
        self._login = place / "login.cnf"
        self._proxies = place / "proxies"
        self._proxies.mkdir()
        # Clients distrust a file that others may write to.
        self.vomses.write_text(f'"{vo}" "localhost" "{self.port}" "{self.host.dn}" "{vo}"\n')
        self.vomses.chmod(0o644)
        trusted = self.vomsdir / vo / "localhost.lsc"
        trusted.parent.mkdir(parents=True)
        trusted.write_text(f"{self.host.dn}\n{authority.dn}\n")

    def add_member(self, person: Credential, *fqans: str) -> None:
        """Admit somebody to the VO and to groups and roles: /vo/group, /vo/Role=pilot, /vo/group/Role=pilot.

        Of groups and roles the server gets what it does not have yet. Generic attributes, as nickname, are left out:
        Debian's VOMS 2.1.0rc3 hands them out without their values.
        """
        said = [_USER.format(dn=person.dn), _MEMBERSHIP.format(dn=person.dn, group=f"/{self.vo}")]
        for fqan in fqans:
            group, _, role = fqan.partition("/Role=")
            words = group.split("/")[1:]
            for depth in range(2, len(words) + 1):
                ancestors = {"group": "/" + "/".join(words[:depth]), "parent": "/" + "/".join(words[: depth - 1])}
                said.append(_GROUP.format(**ancestors))
                said.append(_MEMBERSHIP.format(dn=person.dn, group=ancestors["group"]))
            if role:
                said.append(_ROLE.format(dn=person.dn, group=group, role=role))
        self._execute("\n".join(said))

    def remove_member(self, person: Credential) -> None:
        self._execute(f"DELETE FROM usr WHERE dn = '{person.dn}';")

    def environ(self, **more: str) -> dict[str, str]:
        """In which the clients of VOMS find the authority and this VO."""
        known = {"X509_CERT_DIR": str(self.authority.directory), "X509_VOMS_DIR": str(self.vomsdir)}
        return environ(self._proxies, **known, VOMS_USERCONF=str(self.vomses), X509_VOMSES=str(self.vomses), **more)

    def proxy(self, person: Credential, *options: str, voms: str | None = None) -> Path:
        """What voms-proxy-init makes: an RFC 3820 proxy with attributes of this VO, or astro:/astro/Role=pilot."""
        file = self._proxies / secrets.token_hex(8)
        run(
            [
                found("voms-proxy-init"), "-rfc", "-bits", "2048", "-cert", str(person.certificate),
                "-key", str(person.key), "-voms", voms or self.vo, "-vomses", str(self.vomses), "-out", str(file),
                *options,
            ],
            self.environ(),
        )  # fmt: skip
        return file

    def describe(self, proxy: Path) -> str:
        """What voms-proxy-info says of a proxy after verifying its attributes; ServerFailed if it does not."""
        return run([found("voms-proxy-info"), "-all", "-file", str(proxy)], self.environ())

    def load(self, statements: str) -> None:
        """Make the tables, then the rows without which the server does not start."""
        self._execute(_TABLES.read_text())
        self._execute(statements)

    def _execute(self, statements: str) -> None:
        done = subprocess.run(
            [found("mariadb"), f"--defaults-file={self._login}", "voms"], input=statements.encode(), check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ(self._proxies), timeout=60,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerFailed(f"the database of VOMS refuses:\n{done.stdout.decode(errors='replace')}")


@contextlib.contextmanager
def voms_server(authority: Authority, vo: str = "astro") -> Iterator[VOMSServer]:
    """A server of one VO, without members, until the end of the block. Only root can start one."""
    with workplace("voms") as place:
        server = VOMSServer(place, authority, vo)
        with _database(place), _voms(place, server):
            yield server


@contextlib.contextmanager
def _database(place: Path) -> Iterator[None]:
    settings, account, password = place / "my.cnf", place / "account.sql", secrets.token_hex(16)
    settings.write_text(_MARIADB.format(place=place, user="user = root" if os.geteuid() == 0 else ""))
    for file, text in {
        account: _ACCOUNT.format(password=password),
        place / "login.cnf": f"[client]\nuser = voms\npassword = {password}\nsocket = {place / 'socket'}\n",
        # The server refuses a password file of others.
        place / "password": f"{password}\n",
    }.items():
        file.touch(mode=0o640)
        file.write_text(text)
    install = [found("mariadb-install-db"), f"--defaults-file={settings}", "--auth-root-authentication-method=normal"]
    run([*install, "--skip-test-db", "--skip-name-resolve"], environ(place))
    argv = [found("mariadbd"), f"--defaults-file={settings}", f"--init-file={account}"]
    with running(argv, lambda: (place / "socket").exists(), place / "mariadbd.log"):
        yield


@contextlib.contextmanager
def _voms(place: Path, server: VOMSServer) -> Iterator[None]:
    server.load(_FIRST_ROWS.format(ca=server.authority.dn, vo=server.vo))
    settings = place / "voms.conf"
    options = {
        "vo": server.vo, "port": server.port, "uri": f"localhost:{server.port}", "dbname": "voms", "username": "voms",
        "contactstring": "localhost", "mysql-socket": place / "socket", "passfile": place / "password",
        "sqlloc": "/usr/lib/voms/libvomsmysql.so", "x509_user_cert": server.host.certificate,
        "x509_user_key": server.host.key, "x509_cert_dir": server.authority.directory, "logfile": place / "voms.log",
        "timeout": 86400,
    }  # fmt: skip
    settings.write_text("".join(f"--{name}={value}\n" for name, value in options.items()))
    # Even in the foreground it goes on in a session of its own. What ends with its first process is a namespace.
    argv = ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@" && exec sleep infinity', "sh"]
    argv += [found("voms"), "-foreground", "-conf", str(settings)]
    with running(argv, lambda: listens(server.port), place / "voms.log", stop_by=signal.SIGKILL):
        yield
