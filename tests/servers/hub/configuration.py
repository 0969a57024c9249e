"""What JupyterHub reads as its configuration. The settings are in the file that SPINOR_TEST_HUB names.

Tokens reach the users' servers as EGI's notebooks have them: in the file access_token below $SECRETS_MOUNT_PATH,
written when the server starts and whenever the hub has refreshed them, and in the environment as of the start.
"""

import json
import os
from pathlib import Path
from typing import Any

from oauthenticator.generic import GenericOAuthenticator

c: Any = globals()["c"]  # JupyterHub puts it there.
FILE = Path(os.environ["SPINOR_TEST_HUB"])
SETTINGS = json.loads(FILE.read_text())
PLACE = FILE.parent


def secrets_directory(user: str) -> Path:
    return PLACE / "secrets" / user


def write_token(user: str, token: str) -> None:
    """Replace the file, as Kubernetes does it with a mounted secret."""
    directory = secrets_directory(user)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = directory / ".access_token"
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(token)
    draft.replace(directory / "access_token")


class Authenticator(GenericOAuthenticator):  # type: ignore[misc]
    async def refresh_user(self, user: Any, handler: Any = None, **more: Any) -> Any:
        answer = await super().refresh_user(user, handler, **more)
        if isinstance(answer, dict):
            write_token(user.name, answer["auth_state"]["access_token"])
        return answer


def before_start(spawner: Any, auth_state: dict[str, Any] | None) -> None:
    if auth_state is not None:
        write_token(spawner.user.name, auth_state["access_token"])
        spawner.environment["ACCESS_TOKEN"] = auth_state["access_token"]
    spawner.environment["SECRETS_MOUNT_PATH"] = str(secrets_directory(spawner.user.name))
    # As it is now: tests change it between two starts.
    spawner.environment |= json.loads(FILE.read_text())["environment"]


c.JupyterHub.bind_url = SETTINGS["url"]
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{SETTINGS['hub_port']}"
c.JupyterHub.ssl_cert = SETTINGS["certificate"]
c.JupyterHub.ssl_key = SETTINGS["key"]
c.JupyterHub.db_url = f"sqlite:///{PLACE}/hub.sqlite"
c.JupyterHub.log_level = "INFO"
c.JupyterHub.services = [{"name": "tests", "api_token": SETTINGS["api_token"]}]
c.JupyterHub.load_roles = [
    {
        "name": "tests",
        "scopes": ["admin:users", "admin:servers", "access:servers", "admin:auth_state", "tokens"],
        "services": ["tests"],
    },
    *SETTINGS["roles"],
]
c.ConfigurableHTTPProxy.command = SETTINGS["proxy"]
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{SETTINGS['proxy_port']}"

c.JupyterHub.authenticator_class = Authenticator
c.Authenticator.allow_all = True
c.Authenticator.enable_auth_state = True
c.Authenticator.auth_refresh_age = SETTINGS["refresh_age_s"]
c.Authenticator.refresh_pre_spawn = True
issuer = SETTINGS["issuer"]
c.GenericOAuthenticator.login_service = "the community"
c.GenericOAuthenticator.client_id = SETTINGS["client_id"]
c.GenericOAuthenticator.client_secret = SETTINGS["client_secret"]
c.GenericOAuthenticator.basic_auth = True
c.GenericOAuthenticator.oauth_callback_url = f"{SETTINGS['url']}/hub/oauth_callback"
c.GenericOAuthenticator.authorize_url = f"{issuer}/auth"
c.GenericOAuthenticator.token_url = f"{issuer}/token"
c.GenericOAuthenticator.userdata_url = f"{issuer}/me"
c.GenericOAuthenticator.username_claim = "sub"
c.GenericOAuthenticator.scope = SETTINGS["scope"]
# Without a consent the provider gives no refresh token.
c.GenericOAuthenticator.extra_authorize_params = {"prompt": "consent"}
c.GenericOAuthenticator.http_request_kwargs = {"ca_certs": SETTINGS["ca_file"]}

c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = f"{PLACE}/homes/{{username}}"
c.Spawner.cmd = SETTINGS["singleuser"]
c.Spawner.default_url = "/lab"
c.Spawner.auth_state_hook = before_start
c.Spawner.start_timeout = 120
