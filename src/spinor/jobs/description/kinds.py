"""What language a text is written in, by its content and not by its name."""

import re
from enum import StrEnum

# As much as decides; comments before it may be long.
_LOOKED_AT = 64 * 1024
_COMMENT = r"(?:\s+|//[^\n]*\n|\#[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*+"
_JDL = re.compile(rf"{_COMMENT}\[?{_COMMENT}[A-Za-z_'][A-Za-z0-9_.']*{_COMMENT}=(?!=)")
_CWL = re.compile(r"^\s*[{,]?\s*[\"']?cwlVersion[\"']?\s*:", re.MULTILINE)


class Kind(StrEnum):
    SPINOR = "spinor"  # YAML or JSON of Spinor's own.
    JDL = "jdl"
    CWL = "cwl"


def kind_of(text: str, name: str = "") -> Kind:
    """The name's ending counts only for JDL so broken that it is not seen to be one."""
    start = text[:_LOOKED_AT].removeprefix("\ufeff")
    if _JDL.match(start) or (name.lower().endswith(".jdl") and not _CWL.search(start)):
        return Kind.JDL
    return Kind.CWL if _CWL.search(start) else Kind.SPINOR
