"""A notebook hub's own answer to the question for its user's token: two services that hubs have for it.

The share manager of EGI Notebooks, and JupyterHub itself where its operator has given servers the scope
`admin:auth_state!user`. Both know a server by JUPYTERHUB_API_TOKEN.
"""

import http.client
import os
import urllib.parse
from collections.abc import Iterator

import msgspec

from spinor.x509.tls import client_context

_TIMEOUT_S = 10
_LONGEST_ANSWER = 1 << 20


class _State(msgspec.Struct):
    access_token: str = ""


class _Answer(msgspec.Struct):
    access_token: str = ""
    auth_state: _State | None = None


def ask_hub() -> str | None:
    """The user's token, or None when no service gives one: not there, or refused (as while the server is shared)."""
    key = os.environ.get("JUPYTERHUB_API_TOKEN", "")
    for url in _addresses():
        if answer := _get(url, key):
            token = answer.access_token or (answer.auth_state.access_token if answer.auth_state else "")
            if token:
                return token
    return None


def _addresses() -> Iterator[str]:
    if given := os.environ.get("SPINOR_HUB_TOKEN_URL"):
        yield given
    elif public := os.environ.get("JUPYTERHUB_PUBLIC_HUB_URL"):
        yield urllib.parse.urljoin(public.rstrip("/") + "/", "../services/share-manager/token")
    api, user = os.environ.get("JUPYTERHUB_API_URL"), os.environ.get("JUPYTERHUB_USER")
    if api and user:
        yield f"{api.rstrip('/')}/users/{urllib.parse.quote(user, safe='')}"


def _get(url: str, key: str) -> _Answer | None:
    """The answer, or None. Redirects are not followed, so that the key goes nowhere else."""
    parts = urllib.parse.urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, timeout=_TIMEOUT_S, context=client_context()
        )
    elif parts.scheme == "http" and url.startswith(os.environ.get("JUPYTERHUB_API_URL") or "https:"):
        # The hub itself, inside of its cluster, which the notebook server asks in the same way all the time.
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT_S)
    else:
        return None
    try:
        connection.request("GET", parts.path, headers={"authorization": f"Bearer {key}", "accept": "application/json"})
        answer = connection.getresponse()
        data = answer.read(_LONGEST_ANSWER)
        return msgspec.json.decode(data, type=_Answer) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connection.close()
