"""Mails and webhooks about the end of arrays. Each is sent at least once; what cannot be sent is tried for a day."""

import asyncio
import ipaddress
import logging
import smtplib
import socket
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit

import httpx

from spinor.db import Database, Tx
from spinor.jobs.control import store
from spinor.jobs.control.gates import WISHED
from spinor.jobs.looking import store as looking
from spinor.jobs.models import Condition, JobStatus
from spinor.jobs.rows import DueNotification, UndueNotification
from spinor.settings import Settings

TIMEOUT_S = 10.0
_BATCH = 100
_log = logging.getLogger(__name__)


class NotDelivered(Exception):
    """Why a message could not be handed over."""


async def find_due(tx: Tx) -> int:
    """Mark what has come true; how many."""
    due: list[int] = []
    never: list[int] = []
    for each in await store.list_undue_notifications(tx, 10 * _BATCH):
        verdict = await _came_true(tx, each)
        if verdict is not None:
            (due if verdict else never).append(each.notification_id)
    await store.set_due(tx, due)
    await store.drop_impossible(tx, never)
    return len(due)


async def _came_true(tx: Tx, each: UndueNotification) -> bool | None:
    """None: not yet. `failed` comes true with the first job that failed; the others when all jobs have ended."""
    jobs = (each.first_job_id, each.last_job_id)
    if each.condition is Condition.FAILED:
        good = tuple(status for status in JobStatus if status not in WISHED[Condition.FAILED])
        if await store.find_first_open(tx, each.vo_id, jobs, good):
            return True
    if await store.find_first_open(tx, each.vo_id, jobs, WISHED[Condition.ENDED]):
        return None
    return each.condition is Condition.ENDED or (
        each.condition is Condition.DONE
        and await store.find_first_open(tx, each.vo_id, jobs, WISHED[Condition.DONE]) is None
    )


async def send_due(db: Database, settings: Settings) -> int:
    """Send what is due; how many were taken in hand. Each is locked until it is sent and marked."""
    async with db.transaction() as tx:
        due = await store.lock_due_notifications(tx, _BATCH)
        for each in due:
            try:
                await _send(tx, settings, each)
            except NotDelivered as error:
                _log.warning("notification-not-sent", extra={"array_id": each.array_id, "error": str(error)})
                await store.note_not_sent(tx, each.notification_id, str(error))
            else:
                await store.note_sent(tx, each.notification_id)
    return len(due)


async def _send(tx: Tx, settings: Settings, each: DueNotification) -> None:
    counts = await looking.count_jobs(tx, each.vo_id, [], [each.array_id])
    if each.webhook:
        await _post(settings, each, counts)
    if each.email:
        await asyncio.to_thread(_mail, settings, each, counts)


def message_of(each: DueNotification, counts: dict[str, int]) -> dict[str, Any]:
    """What a webhook gets."""
    return {
        "event": f"array.{each.condition.value}",
        "vo": each.vo,
        "array_id": each.array_id,
        "name": each.name,
        "first_job_id": each.first_job_id,
        "size": each.size,
        "jobs": counts,
    }


async def _post(settings: Settings, each: DueNotification, counts: dict[str, int]) -> None:
    host = urlsplit(each.webhook).hostname or ""
    if not settings.local_webhooks:
        await asyncio.to_thread(_refuse_inside, host)
    try:
        context = ssl.create_default_context()
        context.hostname_checks_common_name = False
        async with httpx.AsyncClient(verify=context, timeout=TIMEOUT_S, follow_redirects=False) as client:
            answer = await client.post(each.webhook, json=message_of(each, counts))
    except httpx.HTTPError as error:
        raise NotDelivered(f"webhook at {host}: {type(error).__name__}") from error
    if answer.status_code >= 300:
        raise NotDelivered(f"webhook at {host}: it answered {answer.status_code}")


def _refuse_inside(host: str) -> None:
    """A webhook must not reach what only the service's own network can: its addresses are public ones."""
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotDelivered(f"webhook at {host}: no such host") from error
    addresses: Sequence[str] = [str(each[4][0]) for each in found]
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_global for address in addresses):
        raise NotDelivered(f"webhook at {host}: its address is not a public one")


def _mail(settings: Settings, each: DueNotification, counts: dict[str, int]) -> None:
    if not settings.smtp_host:
        raise NotDelivered("this service sends no mail: SPINOR_SMTP_HOST is not set")
    message = EmailMessage()
    message["From"] = settings.mail_from or f"spinor@{socket.getfqdn()}"
    message["To"] = each.email
    message["Subject"] = f"Spinor: {' '.join(each.name.split())} ({each.vo}) {each.condition.value}"
    lines = [f"{count:>10,} {status}" for status, count in sorted(counts.items())]
    message.set_content(
        f"Array {each.array_id} ({each.size:,} jobs) of VO {each.vo}:\n\n" + "\n".join(lines)
        + f"\n\nspinor job list --where 'array_id={each.array_id}'\n"
    )  # fmt: skip
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_S) as smtp:
            smtp.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(f"mail: {type(error).__name__}") from error
