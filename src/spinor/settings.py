"""The dozen settings, read once from the environment. Everything else is operations data (`spinor config`)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spinor.errors import SpinorError


class BadSettings(SpinorError):
    """A setting is missing or wrong."""

    code = "bad-settings"


CRL_POLICIES = ("if_present", "required", "ignore")  # Of spinor.x509.trust.CRLPolicy; the first is the usual one.


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one process of Spinor needs to know at its start. Paths are absolute."""

    database_url: str
    data_dir: Path
    url: str  # The public address, and the issuer of our tokens; no trailing slash.
    listen: str = "127.0.0.1:8443"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    ca_file: Path | None = None
    keys_dir: Path
    blob_dir: Path
    blobs: str = ""  # Where sandboxes and kept logs lie when not below blob_dir: an address of spinor.blobs.s3.
    storage_dir: Path
    ce_dir: Path
    x509_dir: Path | None = None  # None: see `authorities_dir`.
    voms_dir: Path | None = None  # None: see `lsc_dir`.
    crl_policy: str = CRL_POLICIES[0]
    development_login: bool = False
    database_pool: int = 10  # Connections of one server or worker process.
    log_level: str = "INFO"
    smtp_host: str = ""  # Mails go through it; empty: none are sent.
    smtp_port: int = 25
    mail_from: str = ""
    local_webhooks: bool = False  # Whether webhooks may reach addresses that are not public.

    @property
    def authorities_dir(self) -> Path:
        """The authorities whose certificates may sign in, as IGTF distributes them."""
        return self.x509_dir or self.data_dir / "x509" / "certificates"

    @property
    def lsc_dir(self) -> Path:
        """Which hosts sign the attributes of which VO: `<vo>/<host>.lsc`, as VOMS has it."""
        return self.voms_dir or self.data_dir / "x509" / "vomsdir"

    @property
    def online_ca_dir(self) -> Path:
        return self.data_dir / "x509" / "online-ca"

    @staticmethod
    def from_environment(environ: Mapping[str, str] | None = None) -> "Settings":
        """Read SPINOR_*; what is absent lies below SPINOR_DATA_DIR."""
        env = os.environ if environ is None else environ

        def need(name: str, remedy: str) -> str:
            value = env.get(name, "").strip()
            if not value:
                raise BadSettings(f"The environment variable {name} is not set; {remedy}.", setting=name)
            return value

        def path(name: str, default: Path) -> Path:
            return Path(env.get(name) or default).absolute()

        def whole_number(name: str, default: int) -> int:
            value = env.get(name, str(default))
            if not value.isdigit() or int(value) < 1:
                raise BadSettings(f"{name} is {value!r}; it must be a whole number from 1 up.", setting=name)
            return int(value)

        data = Path(need("SPINOR_DATA_DIR", "name the directory that holds the service's data")).absolute()
        tls_cert, tls_key, ca_file = (env.get(f"SPINOR_{part}") for part in ("TLS_CERT", "TLS_KEY", "CA_FILE"))
        crl_policy = env.get("SPINOR_CRL_POLICY", CRL_POLICIES[0])
        if crl_policy not in CRL_POLICIES:
            known = ", ".join(CRL_POLICIES)
            raise BadSettings(f"SPINOR_CRL_POLICY is {crl_policy!r}; it must be one of {known}.", setting="crl_policy")
        return Settings(
            database_url=need("SPINOR_DATABASE_URL", "give the PostgreSQL address (postgresql://user@host/name)"),
            data_dir=data,
            url=need("SPINOR_URL", "give the public address, for example https://spinor.example.org").rstrip("/"),
            listen=env.get("SPINOR_LISTEN", "127.0.0.1:8443"),
            tls_cert=Path(tls_cert) if tls_cert else None,
            tls_key=Path(tls_key) if tls_key else None,
            ca_file=Path(ca_file) if ca_file else None,
            keys_dir=path("SPINOR_KEYS_DIR", data / "keys"),
            blob_dir=path("SPINOR_BLOB_DIR", data / "blobs"),
            blobs=env.get("SPINOR_BLOBS", "").strip(),
            storage_dir=path("SPINOR_STORAGE_DIR", data / "storage"),
            ce_dir=path("SPINOR_CE_DIR", data / "computing"),
            x509_dir=path("SPINOR_X509_DIR", data / "x509" / "certificates"),
            voms_dir=path("SPINOR_VOMS_DIR", data / "x509" / "vomsdir"),
            crl_policy=crl_policy,
            development_login=env.get("SPINOR_DEVELOPMENT_LOGIN") == "1",
            database_pool=whole_number("SPINOR_DATABASE_POOL", 10),
            log_level=env.get("SPINOR_LOG_LEVEL", "INFO").upper(),
            smtp_host=env.get("SPINOR_SMTP_HOST", ""),
            smtp_port=whole_number("SPINOR_SMTP_PORT", 25),
            mail_from=env.get("SPINOR_MAIL_FROM", ""),
            local_webhooks=env.get("SPINOR_LOCAL_WEBHOOKS") == "1",
        )
