"""The way in: one service, as one person."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from spinor import credentials
from spinor.api import login as signing_in
from spinor.api.files import Files
from spinor.api.job import Job
from spinor.api.jobs import Description, Jobs
from spinor.api.rendering import Shown, badge, bold, card, facts, html_table, muted, text_facts, text_table
from spinor.api.rows import Tabular, record
from spinor.api.sets import JobSet
from spinor.api.sharing import SharedClient
from spinor.client import Client
from spinor.errors import NotFound
from spinor.hub import Lender
from spinor.identity.models import WhoAmI
from spinor.identity.people.models import EndedSessions, EndSessions, SessionRow

if TYPE_CHECKING:
    from spinor.api.executor import Executor

_SESSION_COLUMNS = ("session_id", "vo", "group", "client_id", "signed_in_by", "address", "opened_at", "expires_at")


def connect(url: str = "", *, token: str | None = None, vo: str = "", group: str = "", ca_file: str = "") -> "Grid":
    """The service, signed in with what is found: the token given here, that of the environment, of `spinor login`, or
    of the notebook hub. `Grid.login` asks in the browser where nothing is found.

    Without `url` it is that of SPINOR_URL, of `spinor login` or of /etc/spinor/client.json. Raises NoServer.
    """
    url, server = credentials.known_server(url)
    server = msgspec.structs.replace(server, vo=vo or server.vo, group=group or server.group)
    if ca_file:
        server.ca_file = ca_file
    if token is None:
        return Grid(SharedClient(url, server))
    # A token that is given is the only one: another person's may lie around.
    server.refresh_token = None
    client = SharedClient(url, server, token if credentials.peek(token).iss == url else None)
    client.lender = Lender(url, client.exchange, token)
    return Grid(client)


class Me(Shown):
    """Who is signed in, as what, and until when. It never shows the token."""

    def __init__(self, who: WhoAmI, url: str, way: str, expires_at: datetime | None) -> None:
        self.who, self.url, self.way, self.expires_at = who, url, way, expires_at

    @property
    def user(self) -> str:
        return self.who.user

    @property
    def vo(self) -> str:
        return self.who.vo

    @property
    def group(self) -> str:
        return self.who.group

    def _facts(self) -> Mapping[str, Any]:
        return {
            "name": self.who.full_name,
            "other roles": [
                f"{m.vo}/{m.group}" for m in self.who.memberships if (m.vo, m.group) != (self.vo, self.group)
            ],
            "token": self.way,
            "expires_at": self.expires_at,
            "server": self.url,
        }

    def text(self) -> str:
        return text_facts(f"{self.user}, {self.group} of {self.vo}", self._facts())

    def html(self) -> str:
        title = f"{badge('signed in', good=True)} {bold(self.user)} {muted(f'{self.group} of {self.vo}')}"
        return card(title, [facts(self._facts())])


class Sessions(Shown, Tabular):
    """Open sessions of one person, newest first; `end` ends one of them."""

    def __init__(self, client: Client, rows: Sequence[SessionRow]) -> None:
        self._client, self.rows = client, rows

    def __len__(self) -> int:
        return len(self.rows)

    def end(self, *session_ids: str | UUID) -> None:
        """Their tokens are worth nothing from now on. Raises NotFound with the first that is none of this person's."""
        body = EndSessions(session_ids=[UUID(str(each)) for each in session_ids])
        ended = self._client.post("/api/sessions/end", body, EndedSessions)
        if ended.refused:
            raise NotFound(ended.refused[0].detail)

    def records(self) -> Sequence[Mapping[str, Any]]:
        return [{**record(row), "session_id": str(row.session_id), "kind": row.kind.value} for row in self.rows]

    def _cells(self) -> list[list[Any]]:
        return [[getattr(row, name) for name in _SESSION_COLUMNS] for row in self.rows]

    def text(self) -> str:
        return "\n".join([f"{len(self)} open sessions", text_table(_SESSION_COLUMNS, self._cells())])

    def html(self) -> str:
        return card(bold(f"{len(self)} open sessions"), [html_table(_SESSION_COLUMNS, self._cells())])


class Grid(Shown):
    """One service, as one person: `jobs`, `files`, `me`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.jobs = Jobs(client)
        self.files = Files(client)

    def submit(self, *descriptions: Description, **fields: Any) -> Job | JobSet:
        """The same as `jobs.submit`."""
        return self.jobs.submit(*descriptions, **fields)

    def executor(self, *, python: str = "python3", **description: Any) -> "Executor":
        """Run Python functions as jobs (concurrent.futures); `description` are fields of the job description."""
        from spinor.api.executor import Executor

        return Executor(self, python=python, **description)

    @property
    def me(self) -> Me:
        """Who the service takes you for. Raises NotSignedIn."""
        who = self.client.get("/api/auth/whoami", WhoAmI)
        expires = credentials.peek(self.client.token()).exp
        expires_at = datetime.fromtimestamp(expires, UTC) if expires else None
        return Me(who, self.client.url, signing_in.way_of(self.client), expires_at)

    @property
    def sessions(self) -> "Sessions":
        """Where this person is signed in."""
        body = {"where": "open=true", "sort": ["-opened_at"]}
        return Sessions(self.client, list(self.client.pages("/api/sessions/search", body, SessionRow)))

    def login(self, vo: str = "", group: str = "") -> Me:
        """Sign in, with no question where a token is found, and in the browser otherwise."""
        signing_in.sign_in(self.client, vo, group)
        return self.me

    def logout(self) -> bool:
        """End this session at the service, and forget its tokens here. False when it is the one of `spinor login`."""
        return signing_in.sign_out(self.client)

    def text(self) -> str:
        return f"Spinor at {self.client.url}"

    def html(self) -> str:
        return card(f"{bold('Spinor')} {muted(self.client.url)}", [])
