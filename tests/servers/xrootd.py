"""A real XRootD storage: root:// with certificates, proxies and tokens, and https:// with the same.

WLCG tokens are admitted by SciTokens for the issuers that the test names, proxies by a gridmap and by their VOMS
attributes. Its release takes no file of authorities for the issuers, only the system's; so it runs in a mount
namespace of its own, in which the system's file is another one.
"""

import contextlib
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.servers.authority import Authority, Credential
from tests.servers.process import environ, found, free_port, listens, run, running, workplace

_SYSTEMS_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_SETTINGS = """all.role server
all.export /store
oss.localroot {place}/data
all.adminpath {place}/admin
all.pidpath {place}/admin
all.sitename TEST
xrd.port {root_port}
xrd.network nodnr
xrootd.seclib libXrdSec.so
sec.protocol gsi -certdir:{cas} -cert:{certificate} -key:{key} -crl:1 -gmapopt:1 -gridmap:{place}/gridmap {voms}
sec.protocol ztn
sec.protbind * gsi ztn
xrd.tls {certificate} {key}
xrd.tlsca certdir {cas}
xrootd.tls capable all
xrootd.chksum max 2 adler32 md5 crc32
xrd.protocol http:{https_port} libXrdHttp.so
http.header2cgi Authorization authz
http.gridmap {place}/gridmap
http.secxtractor libXrdVoms.so
ofs.authorize 1
acc.authdb {place}/authdb
ofs.authlib ++ libXrdAccSciTokens.so config={place}/scitokens.cfg
"""
# The words after the script: the bundle, the system's bundle, and the command.
_NAMESPACE = 'mount --bind "$0" "$1" && shift && exec setpriv --reuid xrootd --regid xrootd --clear-groups "$@"'


class Admission(NamedTuple):
    """Whom a storage admits where. Paths are those of the storage, below /store.

    issuers: a token's issuer -> the directory that the paths in its scopes are relative to.
    audiences: what `aud` of a token must name one of.
    accounts: a certificate's DN -> the local account that rules can name.
    rules: lines of XRootD's authorization file: "u ada /store/ada a", "g /astro /store/astro lr" (a VOMS group).
    """

    issuers: Mapping[str, str] = {}
    audiences: Sequence[str] = ()
    accounts: Mapping[str, str] = {}
    rules: Sequence[str] = ()


class XRootDServer(NamedTuple):
    https: str  # https://localhost:PORT; files are below /store.
    root: str  # root://localhost:PORT, and after it two slashes.
    store: Path
    log: Path
    authority: Authority

    def http(self, token: str | None = None, proxy: Path | None = None) -> httpx.Client:
        """A client with a bearer token, or with a proxy's or certificate's file that has the key in it."""
        context = self.authority.context()
        if proxy is not None:
            context.load_cert_chain(proxy)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # The server ends a connection after it has refused a write, without saying so.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.https, verify=context, headers=headers, limits=limits, trust_env=False)

    def client(self, *words: str, token: str | None = None, proxy: Path | None = None) -> str:
        """Run xrdcp or xrdfs; what it says, or ServerFailed."""
        with workplace("xrdcp") as home:
            env = environ(home, X509_CERT_DIR=str(self.authority.directory))
            if token is not None:
                env |= {"BEARER_TOKEN": token, "XrdSecPROTOCOL": "ztn"}
            if proxy is not None:
                env |= {"X509_USER_PROXY": str(proxy), "XrdSecPROTOCOL": "gsi"}
            return run([found(words[0]), *words[1:]], env)


@contextlib.contextmanager
def xrootd_server(
    authority: Authority, admission: Admission, *, vomsdir: Path | None = None, issuer_cas: Sequence[Path] = ()
) -> Iterator[XRootDServer]:
    """A storage until the end of the block. The issuers' servers are trusted by the authority or by issuer_cas.

    VOMS attributes are looked at with a vomsdir, which the account xrootd must be able to read: directories of pytest
    are closed to it, a `workplace` is not. Only root can start it.
    """
    with workplace("xrootd") as place:
        account = pwd.getpwnam("xrootd")
        for name in ("data", "data/store", "admin", "cache"):
            (place / name).mkdir()
        root_port, https_port = free_port(), free_port()
        host = _lent(place, authority.host())
        (place / "xrootd.cfg").write_text(
            _SETTINGS.format(
                place=place, root_port=root_port, https_port=https_port, cas=authority.directory,
                certificate=host.certificate, key=host.key, voms="-vomsat:1 -vomsfun:libXrdVoms.so" if vomsdir else "",
            )
        )  # fmt: skip
        _write_admission(place, admission)
        bundle = place / "bundle.pem"
        bundle.write_bytes(b"".join(file.read_bytes() for file in (authority.ca_file, *issuer_cas)))
        for made in place.rglob("*"):
            os.chown(made, account.pw_uid, account.pw_gid)
        log = place / "xrootd.log"
        env = environ(place, X509_CERT_DIR=str(authority.directory), XDG_CACHE_HOME=str(place / "cache"))
        env |= {"X509_VOMS_DIR": str(vomsdir)} if vomsdir else {}
        argv = ["unshare", "--mount", "sh", "-c", _NAMESPACE, str(bundle), _SYSTEMS_BUNDLE]
        argv += [found("xrootd"), "-c", str(place / "xrootd.cfg"), "-n", "test"]
        with running(argv, lambda: listens(root_port) and listens(https_port), log, env=env):
            roots = f"https://localhost:{https_port}", f"root://localhost:{root_port}"
            yield XRootDServer(*roots, place / "data" / "store", log, authority)


def _lent(place: Path, host: Credential) -> Credential:
    """A copy that the server's account may own, since it reads no key of another one."""
    lent = Credential(place / "host.pem", place / "host.key", host.dn)
    shutil.copy(host.certificate, lent.certificate)
    lent.key.touch(mode=0o400)
    lent.key.write_bytes(host.key.read_bytes())
    return lent


def _write_admission(place: Path, admission: Admission) -> None:
    audiences = ", ".join(admission.audiences)
    known = [f"[Global]\naudience = {audiences}\n"]
    for number, (issuer, directory) in enumerate(admission.issuers.items()):
        known.append(f"[Issuer number-{number}]\nissuer = {issuer}\nbase_path = {directory}\n")
    (place / "scitokens.cfg").write_text("\n".join(known))
    (place / "gridmap").write_text("".join(f'"{dn}" {name}\n' for dn, name in admission.accounts.items()))
    (place / "authdb").write_text("".join(f"{rule}\n" for rule in admission.rules))
