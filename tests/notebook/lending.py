"""Tokens as hubs lend them, for tests that look at how they are found."""

import base64
import functools
import json
import time
from typing import Any


@functools.cache
def lent_token(subject: str = "ada", *, lives_s: float = 3600, issuer: str = "https://login.example.org") -> str:
    """A token whose claims can be read and whose signature nobody here verifies; the same each time."""
    claims = {"iss": issuer, "sub": subject, "exp": int(time.time() + lives_s)}
    return f"{_part({'alg': 'RS256'})}.{_part(claims)}.c2lnbmF0dXJl"


def _part(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()
