"""What a site does that wants to trust a service's online CA, with nothing but what the service publishes."""

import subprocess
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding


async def install_authority(http: httpx.AsyncClient, folder: Path) -> None:
    """Put the authority into a directory as IGTF writes it, under the hashes of today's and of older OpenSSL."""
    names = {"0": "ca.pem", "r0": "crl", "signing_policy": "signing_policy", "namespaces": "namespaces"}
    content = {suffix: (await http.get(f"/api/x509/{path}")).content for suffix, path in names.items()}
    # As fetch-crl does, since OpenSSL reads directories of PEM only.
    content["r0"] = x509.load_der_x509_crl(content["r0"]).public_bytes(Encoding.PEM)
    write(folder, content)


def write(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    argv = ["openssl", "x509", "-noout", "-subject_hash", "-subject_hash_old"]
    for name in subprocess.run(argv, input=content["0"], capture_output=True, check=True).stdout.decode().split():
        for suffix, data in content.items():
            (folder / f"{name}.{suffix}").write_bytes(data)
