"""A real Keycloak, which EGI Check-in is one of: users in groups, and entitlements for whoever asks for their scope."""

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bench.peers import ENVIRONMENTS
from tests.servers.authority import Authority, Credential
from tests.servers.oidc import Client
from tests.servers.process import ServerFailed, answers, environ, found, free_port, running, workplace

if TYPE_CHECKING:
    from playwright.async_api import Page

_SERVER = ENVIRONMENTS / "keycloak" / "server"
_REALM = "astro"
_ADMIN = "tests"
PASSWORD = "correct horse battery staple"
_JAVA = ["-Xms64m", "-Xmx384m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
# Attributes of users and of their groups; each is a claim in the ID token and at userinfo, for the scope of its name.
CLAIMS = ("eduperson_entitlement", "eduperson_assurance", "voperson_id", "cert_entitlement", "wlcg.groups")
_SINGLE = {"voperson_id"}
# Nobody has to give a name or an address, and attributes may be any.
_PROFILE = {
    "attributes": [
        {"name": name, "permissions": {"view": ["admin"], "edit": ["admin"]}}
        for name in ("username", "email", "firstName", "lastName")
    ],
    "unmanagedAttributePolicy": "ADMIN_EDIT",
}


class KeycloakServer:
    """One realm of it. Changes hold from the next request on."""

    def __init__(self, root: str, authority: Authority, admin_secret: str) -> None:
        self.authority = authority
        self.ca_file = authority.ca_file
        self.issuer = f"{root}/realms/{_REALM}"
        self._root = root
        self._admin_secret = admin_secret
        self._groups: dict[str, str] = {}

    def add_group(self, name: str, **claims: Sequence[str]) -> None:
        """What its members have besides their own claims, for example eduperson_entitlement."""
        self._groups[name] = self._make("groups", {"name": name, "attributes": _attributes(claims)})

    def add_user(
        self, login: str, *, name: str = "", email: str = "", groups: Sequence[str] = (), **claims: Sequence[str] | str
    ) -> str:
        """The new user's subject. The password is PASSWORD; `wlcg.groups` is written wlcg_groups here."""
        first, _, last = name.partition(" ")
        subject = self._make(
            "users",
            {
                "username": login, "enabled": True, "firstName": first, "lastName": last, "email": email or None,
                "emailVerified": bool(email), "attributes": _attributes(claims),
                "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
            },
        )  # fmt: skip
        for group in groups:
            self._admin("PUT", f"users/{subject}/groups/{self._groups[group]}", {})
        return subject

    def add_client(
        self, client_id: str, redirect_uris: Sequence[str] = (), *, public: bool = False, **more: Any
    ) -> Client:
        """A client for code, refresh and device flow, PKCE demanded, and `sign_in` without a browser.

        If it has a secret, also for client credentials and token exchange. `more` goes into its representation.
        """
        secret = None if public else secrets.token_urlsafe(32)
        attributes = {
            "oauth2.device.authorization.grant.enabled": "true",
            "pkce.code.challenge.method": "S256",
            "standard.token.exchange.enabled": "false" if public else "true",
        }
        self._make(
            "clients",
            {
                "clientId": client_id, "redirectUris": list(redirect_uris), "publicClient": public, "secret": secret,
                "standardFlowEnabled": True, "directAccessGrantsEnabled": True, "serviceAccountsEnabled": not public,
                "attributes": attributes,
            } | more,
        )  # fmt: skip
        return Client(client_id, secret)

    def add_audience(self, client: Client, audience: str) -> None:
        """Tokens of this client name the audience, too: a relying party, or a client that may exchange them."""
        identifier = self._admin("GET", f"clients?clientId={client.client_id}").json()[0]["id"]
        config = {"included.custom.audience": audience, "access.token.claim": "true", "id.token.claim": "false"}
        mapper = {"name": audience, "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper"}
        self._make(f"clients/{identifier}/protocol-mappers/models", mapper | {"config": config})

    def rotate_keys(self) -> None:
        """Sign with a new key from now on; the old ones stay published."""
        number = len(self._admin("GET", "components?type=org.keycloak.keys.KeyProvider").json())
        provider = {"providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider"}
        config = {"priority": [str(1000 + number)], "algorithm": ["RS256"]}
        self._make("components", provider | {"name": f"rsa-{number}", "config": config})

    def change(self, **settings: Any) -> None:
        """Settings of the realm, for example accessTokenLifespan in seconds."""
        self._admin("PUT", "", settings)

    def http(self) -> httpx.Client:
        """A client that trusts this server."""
        return httpx.Client(verify=self.authority.context(), trust_env=False, timeout=60)

    def sign_in(self, client: Client, login: str, scope: str = "openid") -> dict[str, Any]:
        """The answer of the token endpoint for the password."""
        return self.token(client, grant_type="password", username=login, password=PASSWORD, scope=scope)

    def token(self, client: Client, **form: str) -> dict[str, Any]:
        """Ask the token endpoint as this client; the answer, or ServerFailed with the error."""
        given = form | {"client_id": client.client_id}
        given |= {"client_secret": client.client_secret} if client.client_secret else {}
        with self.http() as http:
            answer = http.post(f"{self.issuer}/protocol/openid-connect/token", data=given)
        if answer.status_code != 200:
            raise ServerFailed(f"Keycloak refuses a token: {answer.text}")
        tokens: dict[str, Any] = answer.json()
        return tokens

    def set_up(self) -> None:
        """Make the realm, and the scopes that its clients can ask for."""
        realm = {"realm": _REALM, "enabled": True, "oauth2DevicePollingInterval": 1, "sslRequired": "all"}
        self._admin("POST", None, realm)
        self._admin("PUT", "users/profile", _PROFILE)
        for claim in CLAIMS:
            mapper = {"name": claim, "protocol": "openid-connect", "protocolMapper": "oidc-usermodel-attribute-mapper"}
            config = {
                "user.attribute": claim, "claim.name": claim.replace(".", "\\."), "jsonType.label": "String",
                "multivalued": str(claim not in _SINGLE).lower(), "aggregate.attrs": "true",
                "id.token.claim": "true", "userinfo.token.claim": "true", "access.token.claim": "false",
                "introspection.token.claim": "true",
            }  # fmt: skip
            scope = {"name": claim, "protocol": "openid-connect", "attributes": {"include.in.token.scope": "true"}}
            made = self._make("client-scopes", scope | {"protocolMappers": [mapper | {"config": config}]})
            self._admin("PUT", f"default-optional-client-scopes/{made}", {})

    def _make(self, what: str, representation: Mapping[str, Any]) -> str:
        """The identifier that Keycloak gives it."""
        return str(self._admin("POST", what, representation).headers["location"].rpartition("/")[2])

    def _admin(self, method: str, path: str | None, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Below the realm, or beside all of them."""
        root = f"{self._root}/admin/realms" + ("" if path is None else f"/{_REALM}/{path}")
        with self.http() as http:
            form = {"grant_type": "client_credentials", "client_id": _ADMIN, "client_secret": self._admin_secret}
            login = http.post(f"{self._root}/realms/master/protocol/openid-connect/token", data=form)
            bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
            answer = http.request(method, root.rstrip("/"), headers=bearer, json=body)
        if answer.status_code >= 400:
            raise ServerFailed(f"Keycloak refuses {method} {path}: {answer.status_code} {answer.text}")
        return answer


@contextlib.contextmanager
def keycloak_server(authority: Authority) -> Iterator[KeycloakServer]:
    """A server with its database in memory and one realm without users, until the end of the block."""
    with workplace("keycloak") as place:
        # All of it is shared but for what it writes while it runs.
        for part in ("bin", "conf", "lib", "providers", "themes", "version.txt"):
            (place / part).symlink_to(_SERVER / part)
        port, health = free_port(), free_port()
        admin_secret, root = secrets.token_urlsafe(32), f"https://localhost:{port}"
        argv = _command(place, authority.host(), port, health)
        env = environ(place, KC_BOOTSTRAP_ADMIN_CLIENT_ID=_ADMIN, KC_BOOTSTRAP_ADMIN_CLIENT_SECRET=admin_secret)
        ready = f"https://localhost:{health}/health/ready"
        with running(argv, lambda: answers(ready, authority.ca_file), place / "keycloak.log", wait_s=120, env=env):
            server = KeycloakServer(root, authority, admin_secret)
            server.set_up()
            yield server


async def sign_in(page: "Page", login: str) -> None:
    """In the browser: the form for name and password."""
    await page.fill("#username", login)
    await page.fill("#password", PASSWORD)
    await page.click("#kc-login")


async def agree(page: "Page") -> None:
    """The page of consent, which the device flow always shows."""
    await page.click("[name=accept]")


def _command(home: Path, host: Credential, port: int, health: int) -> list[str]:
    """What bin/kc.sh does, but with another home and without a shell in between."""
    options = {
        "cache": "local", "https-port": port, "http-host": "127.0.0.1", "http-management-port": health,
        "hostname": f"https://localhost:{port}", "https-certificate-file": host.certificate,
        "https-certificate-key-file": host.key, "log-level": "warn",
    }  # fmt: skip
    return [
        found("java"), *_JAVA, f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home / 'conf'}",
        "-Djava.util.logging.manager=org.jboss.logmanager.LogManager", f"-Djava.io.tmpdir={home}",
        "--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
        "--add-opens=java.base/java.security=ALL-UNNAMED", "-cp", str(home / "lib" / "quarkus-run.jar"),
        "io.quarkus.bootstrap.runner.QuarkusEntryPoint", "start", "--optimized",
        *(f"--{name}={value}" for name, value in options.items()),
    ]  # fmt: skip


def _attributes(claims: Mapping[str, Sequence[str] | str]) -> dict[str, list[str]]:
    written = {name.replace("wlcg_", "wlcg."): value for name, value in claims.items()}
    return {name: [value] if isinstance(value, str) else list(value) for name, value in written.items()}
