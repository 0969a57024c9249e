"""Make what DiracX needs before it starts: a signing key, a repository with its configuration, its tables, and a token.

All of it goes to the directory on the command line; DiracX's settings in the environment name it, too.
"""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from diracx.core.models.auth import AccessTokenPayload
from diracx.core.settings import AuthSettings
from diracx.db.__main__ import init_sql
from diracx.logic.__main__ import new_key, save_jwks
from diracx.logic.auth.token import create_token
from joserfc.jwk import KeySet

VO, GROUP, USER, SUBJECT = "bench", "bench_user", "bench", "1"
_TOKEN_LIFE = timedelta(hours=2)
_CONFIGURATION = {
    "DIRAC": {},
    "Operations": {"Defaults": {}},
    "Registry": {
        VO: {
            "IdP": {"URL": "https://idp.example.org", "ClientID": "bench"},
            "DefaultGroup": GROUP,
            "Users": {SUBJECT: {"PreferedUsername": USER}},
            "Groups": {GROUP: {"Properties": ["NormalUser"], "Users": [SUBJECT]}},
        }
    },
}


def main(home: Path) -> None:
    os.umask(0o077)
    save_jwks(home / "jwks.json", KeySet(keys=[new_key()]))
    configuration = home / "configuration"
    configuration.mkdir()
    (configuration / "default.yml").write_text(json.dumps(_CONFIGURATION))
    who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    for words in (
        ["init", "--quiet", "--initial-branch=master"],
        ["add", "."],
        ["commit", "--quiet", "--message=Begin"],
    ):
        subprocess.run(["git", *who, *words], cwd=configuration, check=True)
    asyncio.run(init_sql())
    (home / "token").write_text(_token())


def _token() -> str:
    """What a login would give to the one user."""
    settings = AuthSettings()
    payload = AccessTokenPayload(
        sub=f"{VO}:{SUBJECT}",
        vo=VO,
        iss=settings.token_issuer,
        dirac_properties=["NormalUser"],
        jti=str(uuid4()),
        preferred_username=USER,
        dirac_group=GROUP,
        exp=datetime.now(UTC) + _TOKEN_LIFE,
        dirac_policies={},
    )
    token: str = create_token(payload, settings)
    return token


if __name__ == "__main__":
    main(Path(sys.argv[1]))
