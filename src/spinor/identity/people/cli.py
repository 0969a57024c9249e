"""`spinor session`, `spinor user` and `spinor audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from spinor.terminal import output_options

if TYPE_CHECKING:
    from spinor.identity.people.models import UserOutcome

_WHOSE = click.Choice(["mine", "vo", "all"])


@click.group()
def session() -> None:
    """See where you are signed in, and end it."""


@session.command("list")
@click.option("--whose", type=_WHOSE, default="mine", show_default=True, help="Yours, the VO's, or all.")
@click.option("--where", default="open=true", show_default=True, help="A filter, for example: user=ada and open=true")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@output_options
def list_sessions(whose: str, where: str, limit: int, as_json: bool, quiet: bool) -> None:
    """List sessions, newest first."""
    from spinor.identity.people.models import SessionRow

    columns = ("session_id", "user", "vo", "group", "client_id", "signed_in_by", "address", "opened_at", "used_at")
    body = {"where": where, "whose": whose, "sort": ["-opened_at"]}
    _listed("/api/sessions/search", body, SessionRow, columns, limit=limit, as_json=as_json, quiet=quiet)


@session.command("end")
@click.argument("sessions", nargs=-1)
@click.option("--others", is_flag=True, help="All of yours but this one.")
def end_sessions(sessions: tuple[str, ...], others: bool) -> int:
    """End SESSIONS (ids, or - for stdin): their tokens are worth nothing from now on."""
    from uuid import UUID

    from spinor.client import Client
    from spinor.identity.people.models import EndedSessions
    from spinor.terminal import read_words, say

    if not sessions and not others:
        raise click.UsageError("Name the sessions to end, or use --others.")
    try:
        session_ids = [str(UUID(word)) for word in read_words(sessions)]
    except ValueError as error:
        raise click.UsageError(f"A session's id is a UUID, as `spinor session list` shows it ({error}).") from None
    with Client.from_environment() as client:
        ended = client.post("/api/sessions/end", {"session_ids": session_ids, "others": others}, EndedSessions)
    say(f"{len(ended.done)} ended" + (f", {len(ended.refused)} refused" if ended.refused else ""))
    for refused in ended.refused:
        say(refused.detail)
    return 3 if ended.refused else 0


@click.group()
def user() -> None:
    """Members of your VO: list, suspend, reinstate."""


@user.command("list")
@click.option("--where", default="", help="A filter, for example: suspended=true or groups like '*prod*'")
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="How many at most.")
@output_options
def list_users(where: str, limit: int, as_json: bool, quiet: bool) -> None:
    """List the members of your VO."""
    from spinor.identity.people.models import MemberRow

    columns = ("user", "full_name", "groups", "origin", "suspended")
    body = {"where": where, "sort": ["user"]}
    _listed("/api/members/search", body, MemberRow, columns, limit=limit, as_json=as_json, quiet=quiet)


@user.command("suspend")
@click.argument("users", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; it is kept in the record.")
@click.option("--everywhere", is_flag=True, help="In every VO: a ban (operators).")
@click.option("--until", "ends_at", type=click.DateTime(), help="When it ends by itself (UTC); else when it is lifted.")
def suspend(users: tuple[str, ...], reason: str, everywhere: bool, ends_at: Any) -> int:
    """Suspend USERS: their sessions end and their jobs stop at once, and they cannot sign in."""
    from datetime import UTC

    until = ends_at.replace(tzinfo=UTC).isoformat() if ends_at else None
    return _judged(users, "/api/suspensions", "suspended", reason=reason, everywhere=everywhere, ends_at=until)


@user.command("ban")
@click.argument("users", nargs=-1, required=True)
@click.option("--reason", required=True, help="Why; it is kept in the record.")
def ban(users: tuple[str, ...], reason: str) -> int:
    """Suspend USERS in every VO (operators)."""
    return _judged(users, "/api/suspensions", "banned", reason=reason, everywhere=True)


@user.command("reinstate")
@click.argument("users", nargs=-1, required=True)
@click.option("--everywhere", is_flag=True, help="Lift a ban (operators).")
def reinstate(users: tuple[str, ...], everywhere: bool) -> int:
    """Lift the suspension of USERS."""
    return _judged(users, "/api/suspensions/lift", "reinstated", everywhere=everywhere)


@user.command("suspensions")
@click.option("--whose", type=click.Choice(["vo", "all"]), default="vo", show_default=True)
@click.option("--where", default="lifted_at missing", show_default=True, help="A filter.")
@output_options
def suspensions(whose: str, where: str, as_json: bool, quiet: bool) -> None:
    """List suspensions and who decided them."""
    from spinor.identity.people.models import SuspensionRow

    columns = ("suspension_id", "user", "vo", "reason", "suspended_by", "suspended_at", "ends_at")
    body = {"where": where, "whose": whose, "sort": ["-suspension_id"]}
    _listed("/api/suspensions/search", body, SuspensionRow, columns, limit=1000, as_json=as_json, quiet=quiet)


@click.group()
def audit() -> None:
    """The record of every token, proxy and certificate that was issued."""


@audit.command("list")
@click.option("--whose", type=_WHOSE, default="mine", show_default=True, help="Yours, the VO's, or all.")
@click.option("--where", default="", help="A filter, for example: kind=proxy and issued_at>-1d")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@output_options
def list_issued(whose: str, where: str, limit: int, as_json: bool, quiet: bool) -> None:
    """List issued credentials, newest first; never the credentials themselves."""
    from spinor.identity.people.models import IssuedRow

    columns = (
        "issued_id",
        "issued_at",
        "kind",
        "user",
        "vo",
        "client_id",
        "audience",
        "expires_at",
        "address",
    )
    body = {"where": where, "whose": whose, "sort": ["-issued_id"]}
    _listed("/api/issued/search", body, IssuedRow, columns, limit=limit, as_json=as_json, quiet=quiet)


def _listed(path: str, body: dict[str, Any], model: type[Any], columns: tuple[str, ...], **output: Any) -> None:
    import msgspec

    from spinor.client import Client
    from spinor.terminal import show

    asked = {**body, "fields": [field.encode_name for field in msgspec.structs.fields(model)]}
    with Client.from_environment() as client:
        rows = client.pages(path, asked, model, output.pop("limit"))
        show(rows, columns, id_field=columns[0], **output)


def _judged(users: tuple[str, ...], path: str, done: str, **more: Any) -> int:
    from spinor.client import Client
    from spinor.identity.people.models import UserOutcome
    from spinor.terminal import read_words, say

    body = {"users": read_words(users), **{name: value for name, value in more.items() if value is not None}}
    with Client.from_environment() as client:
        outcome: UserOutcome = client.post(path, body, UserOutcome)
    if outcome.done:
        say(f"{', '.join(outcome.done)}: {done}.")
    for refused in outcome.refused:
        say(refused.detail)
    if not outcome.refused:
        return 0
    return 3 if all(each.code == "unknown-user" for each in outcome.refused) else 5
