"""DIRAC's commands that ban storage elements and allow them again, for each kind of access."""

from collections.abc import Callable, Sequence

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.statuses import access_word, change
from spinor.compat.jobs.words import client, say, state
from spinor.terminal import printable

_ACCESSES = ("Read", "Write", "Check", "Remove")
_LETTERS = ("r", "w", "k", "v")


def _run(verb: str, status: str) -> Callable[[Given], int]:
    def run(given: Given) -> int:
        from spinor.resources.models import PublicStorageElement

        chosen = [access.lower() for access in _ACCESSES if given.has(f"{verb}{access}")]
        accesses = chosen if chosen and not given.has("All") else []
        names = [name for word in given.words for name in word.split(",") if name]
        with client() as connected:
            if sites := given.values("Site"):
                known = connected.get("/api/storage-elements", list[PublicStorageElement])
                names += [element.name for element in known if element.site in sites]
            if not names:
                raise Usage("there is no storage element to change")
            if not accesses:
                say(f"No option given, all accesses will be {state(status).lower()}")
            body = {"kind": "se", "names": names, "accesses": accesses, "status": status, "reason": ""}
            answer = change(connected, body)
        for done in answer["done"]:
            say(f"{access_word(done['access'])} of {printable(done['name'])} is {state(done['status'])}")
        for refused in answer["refused"]:
            say(f"ERROR {printable(refused['name'])}: {printable(refused['detail'])}")
        return 2 if answer["refused"] else 0

    return run


def _switches(verb: str, word: str) -> Sequence[Switch]:
    return (
        *(
            Switch(letter, f"{verb}{access}", f"{word} only {access.lower()} access to the storage element")
            for letter, access in zip(_LETTERS, _ACCESSES, strict=True)
        ),
        Switch("a", "All", f"{word} all access to the storage element"),
        Switch("m", "Mute", "Taken for DIRAC's sake: nobody is mailed"),
        Switch("S", "Site=", f"{word} all storage elements of the site"),
    )


BAN = Program("Ban storage elements", _run("Ban", "banned"), "SE ...", _switches("Ban", "Ban"))
ALLOW = Program(
    "Allow storage elements again", _run("Allow", "active"), "SE ...", _switches("Allow", "Allow"),
    example="$ dirac-admin-allow-se M3PEC-disk",
)  # fmt: skip
