"""Files of a JDL: sandboxes, input data and output data."""

from typing import Any

from spinor.jobs.description.faults import shown
from spinor.jobs.description.jdl.parameters import lfn_of
from spinor.jobs.description.jdl.reading import Reading
from spinor.jobs.models import InputPolicy, OutputData


def fields(reading: Reading, home: str) -> dict[str, Any]:
    local, lfns = [], []
    for word in reading.words("InputSandbox"):
        if word[:3].upper() == "SB:":
            raise reading.refuse("InputSandbox", f"{shown(word)} lies in DIRAC's store; name the local file instead")
        if word[:4].upper() == "LFN:":
            lfns.append(_lfn(reading, "InputSandbox", word))
        elif reading.parameters.stands_in(word):
            raise reading.refuse("InputSandbox", f"{shown(word)} would differ from job to job; name all the files")
        else:
            local.append(word)
    data = [_lfn(reading, "InputData", word) for word in reading.words("InputData")]
    return {
        "input_sandbox": local,
        "input_data": list(dict.fromkeys(data + lfns)),
        "input_policy": _policy(reading),
        "output_sandbox": [reading.convert("OutputSandbox", word) for word in reading.words("OutputSandbox")],
        "stdout": reading.text("StdOutput", "std.out"),
        "stderr": reading.text("StdError", "std.err"),
        "output_data": _outputs(reading, home),
    }


def _lfn(reading: Reading, name: str, word: str) -> str:
    """A placeholder that is the whole entry may stand for values with `LFN:` before them, or for lists of such."""
    plain = lfn_of(word)
    text = reading.convert(name, plain)
    if text.startswith("{") and text.endswith("}") and reading.parameters.stands_in(plain):
        return f"{{{reading.parameters.without_prefix(text[1:-1])}}}"
    if not plain.startswith(("/", "%")) or "//" in plain:
        raise reading.refuse(name, f"{shown(word)} is no LFN; it begins with / or LFN:/, and has no // in it")
    return text


def _policy(reading: Reading) -> InputPolicy:
    text = reading.fixed("InputDataPolicy")
    if not text or "download" in text.lower():
        return InputPolicy.DOWNLOAD
    if "protocol" in text.lower():
        return InputPolicy.PROTOCOL
    raise reading.refuse("InputDataPolicy", f"{shown(text)} is not known; there is Download and Protocol")


def _outputs(reading: Reading, home: str) -> list[OutputData]:
    words = reading.words("OutputData")
    if not words:
        for name in ("OutputSE", "OutputPath"):
            if name in reading:
                reading.warn(name, "it is left out: there is no OutputData")
        return []
    elements = reading.words("OutputSE")
    if not elements:
        raise reading.refuse("OutputData", "needs OutputSE, the storage element that takes the files")
    first, *others = [reading.convert("OutputSE", word) for word in elements]
    return [
        OutputData(path=path, lfn=lfn, se=first, failover=others)
        for path, lfn in (_output(reading, word, home) for word in words)
    ]


def _output(reading: Reading, word: str, home: str) -> tuple[str, str]:
    plain = lfn_of(word)
    if plain != word:
        # The local file has the LFN's last part as its name, which may be a pattern.
        folder, _, name = plain.rpartition("/")
        if not plain.startswith("/") or not name:
            raise reading.refuse("OutputData", f"{shown(word)} is no LFN of a file; it is LFN:/…/name")
        path = reading.convert("OutputData", name)
        pattern = any(sign in name for sign in "*?[")
        return path, reading.convert("OutputData", f"{folder}/" if pattern else plain)
    if not home:
        raise reading.refuse("OutputData", f"{shown(word)} has no LFN; write LFN:/<vo>/…/{word.rpartition('/')[2]}")
    path = reading.convert("OutputData", word)
    name = "" if any(sign in word for sign in "*?[") else path.rpartition("/")[2]
    folder = reading.text("OutputPath") if "OutputPath" in reading else ""
    folder = lfn_of(folder).strip("/")
    return path, f"{home.rstrip('/')}/{folder or '{job_id}'}/{name}"
