"""The watch over the logs sees what it must see."""

import logging
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from tests import secrets


@pytest.mark.parametrize(
    "text",
    [
        jwt.encode({"alg": "HS256"}, {"sub": "somebody"}, OctKey.generate_key(256)),
        "spinor_rt_" + "x" * 43,
        "-----BEGIN RSA PRIVATE KEY-----",
        '{"kty":"EC","d":"' + "A" * 43 + '"}',
        "cookie: __Host-spinor=" + "c" * 43,
        'form {"client_secret": "' + "s" * 32 + '"}',
    ],
)
def test_a_secret_is_seen(text: str, tmp_path: Path) -> None:
    assert secrets.secrets_in(text)
    (tmp_path / "server.log").write_text(f'{{"event": "x", "text": {text!r}}}\n')
    with pytest.raises(AssertionError, match=r"server\.log"):
        secrets.check_files(tmp_path)


def test_a_secret_in_a_fact_of_a_record_is_seen() -> None:
    logging.getLogger("spinor.test").warning("look", extra={"header": "Bearer spinor_rt_" + "y" * 43})
    found, secrets._listener.found = secrets._listener.found, []
    assert found


@pytest.mark.parametrize("text", ["jti xyz", "eyJhbGciOiJub25lIn0.e30.", '"code": "token-expired"', "a" * 64])
def test_what_is_no_secret_may_be_logged(text: str) -> None:
    assert not secrets.secrets_in(text)
