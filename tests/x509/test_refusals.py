"""Each refusal has a code of its own, and its place in the reference."""

import re
from pathlib import Path

from spinor.errors import SpinorError
from spinor.x509 import assertion, refusals

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "certificate-refusals.md"
ABSTRACT = {"credential-refused", "chain-refused", "proxy-refused", "voms-refused", "assertion-refused"}
ELSEWHERE = {"trust-unreadable"}  # The operator's own directory, no refusal.


def test_every_code_is_in_the_reference_once() -> None:
    classes = {
        value
        for module in (refusals, assertion)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SpinorError) and value is not SpinorError
    }
    codes = [each.code for each in classes]
    assert len(set(codes)) == len(codes)
    assert all((each.__doc__ or "").endswith((".", "`")) for each in classes)
    told = re.findall(r"`((?:chain|proxy|credential|voms|vomses|assertion|dn|unsafe)-[a-z0-9-]+)`", PAGE.read_text())
    assert sorted(told) == sorted({*codes, "unsafe-file"} - ABSTRACT - ELSEWHERE)
