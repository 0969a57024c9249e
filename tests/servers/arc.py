"""A real ARC computing element: A-REX with its REST interface, whose jobs are processes of this machine.

It admits a VOMS proxy of a VO, certificates by their name, and tokens of the issuers that a test names. It looks for
authorities in the system's directories only, so it runs in a mount namespace in which those are the test's.
"""

import contextlib
import grp
import pwd
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.servers.authority import Authority, Credential
from tests.servers.process import environ, found, free_port, listens, run, running, workplace

_SETTINGS = """[common]
hostname = localhost
x509_host_key = {key}
x509_host_cert = {certificate}
x509_cert_dir = {cas}
x509_voms_dir = {vomsdir}

[authgroup:users]
{admitted}

[mapping]
map_to_user = users {account}:{group}

[authtokens]

[lrms]
lrms = fork

[arex]
controldir = {place}/control
sessiondir = {place}/session
logfile = {place}/arex.log
pidfile = {place}/arex.pid
joblog = {place}/jobs.log
wakeupperiod = 2

[arex/cache]
cachedir = {place}/cache

[arex/data-staging]
logfile = {place}/staging.log

[arex/ws]
wsurl = https://localhost:{port}/arex
logfile = {place}/ws.log
pidfile = {place}/ws.pid

[arex/ws/jobs]
allowaccess = users

[infosys]
logfile = {place}/infosys.log

[infosys/glue2]
admindomain_name = TEST

[infosys/cluster]
alias = Test

[queue:fork]
"""
# The words after the script: the directory of authorities, and the place of everything.
_START = """
for there in /etc/ssl/certs /etc/grid-security/certificates; do
    [ ! -d "$there" ] || mount --bind "$0" "$there"
done
# What it tells of its jobs is as old as the last round of its information providers, of which it starts one a minute.
for each in arc-arex-start arc-arex-ws-start; do
    sed -e "s,mktemp -t arex.xml,mktemp $1/arex.xml," \
        -e 's,<arex:gmconfig>,<arex:InfoproviderWakeupPeriod>2</arex:InfoproviderWakeupPeriod>&,' \
        /usr/share/arc/$each >"$1/$each"
    bash "$1/$each"
done
while kill -0 $(cat "$1/arex.pid") && kill -0 $(cat "$1/ws.pid"); do sleep 1; done
"""


class ARCServer(NamedTuple):
    url: str
    place: Path
    user: Credential  # Who may do anything.


@contextlib.contextmanager
def arc_server(
    authority: Authority, *, vo: str = "", vomsdir: Path | None = None,
    issuers: Sequence[str] = (), account: str = "nobody",
) -> Iterator[ARCServer]:  # fmt: skip
    """A computing element until the end of the block: for one user, members of this VO, and tokens of these issuers."""
    with workplace("arc") as place:
        place.chmod(0o755)
        for name in ("control", "session", "cache", "vomsdir"):
            (place / name).mkdir()
        port = free_port()
        host = authority.host()
        owner = pwd.getpwnam(account)
        group = grp.getgrgid(owner.pw_gid).gr_name
        user = authority.user("Pilot Factory")
        lines = [f"subject = {user.dn}"] + [f"authtokens = * {issuer} * * *" for issuer in issuers]
        lines += [f"voms = {vo} * * *"] if vo else []
        settings = _SETTINGS.format(
            key=host.key, certificate=host.certificate, cas=authority.directory, vomsdir=vomsdir or place / "vomsdir",
            admitted="\n".join(lines), account=account, group=group, place=place, port=port,
        )  # fmt: skip
        (place / "arc.conf").write_text(settings)
        # It would make ones of its own, for a minute and more.
        run([found("openssl"), "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out",
             str(place / "control" / "dhparam.pem")], environ(place))  # fmt: skip
        env = environ(place, ARC_CONFIG=str(place / "arc.conf"))
        # What it starts detaches itself, and its jobs do; with their own numbers of processes they end with the first.
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        argv += ["bash", "-uc", _START, str(authority.directory), str(place)]
        url = f"https://localhost:{port}/arex"
        with running(argv, lambda: listens(port), place / "arc.log", env=env, stop_by=signal.SIGKILL):
            yield ARCServer(url, place, user)
