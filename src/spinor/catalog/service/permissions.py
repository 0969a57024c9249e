"""What a caller may do with files and directories.

A directory has a gate: the accesses of itself and of all directories above it. What lies in it can be reached by those
who may pass each of them. Accesses and gates never change, so the connection remembers what it has read of them.
"""

from collections.abc import Iterable

from spinor.access import Caller, Scope
from spinor.catalog import rules
from spinor.catalog.access import store as access_store
from spinor.catalog.models import Access
from spinor.catalog.store import Directory
from spinor.db import Tx

_OVERLAP = 1000


class Permissions:
    """Of one caller, for one request. `learn` before asking."""

    def __init__(self, tx: Tx, caller: Caller) -> None:
        self.tx = tx
        self.caller = caller
        self.everything = caller.may(Scope.FILES_MANAGE)
        self._accesses: dict[int, Access] = tx.memory.setdefault(("accesses", caller.vo_id), {})
        self._gates: dict[int, list[int]] = tx.memory.setdefault(("gates", caller.vo_id), {})
        self._bits: dict[int, int] = {}
        self._open: dict[int, bool] = {}

    async def learn(self, access_ids: Iterable[int], gate_ids: Iterable[int] = ()) -> "Permissions":
        """Read what is not known yet of these; once for all requests of this process."""
        if not self.everything:
            if missing := set(gate_ids) - self._gates.keys():
                self._gates.update(await access_store.find_gates(self.tx, self.caller, missing))
            wanted = set(access_ids).union(*(self._gates[gate_id] for gate_id in gate_ids))
        else:
            wanted = set(access_ids)
        if missing := wanted - self._accesses.keys():
            for access in await access_store.find_accesses(self.tx, self.caller, missing):
                self._accesses[access.access_id] = access
        return self

    async def learn_new(self, overlap: int) -> None:
        """Read the accesses and gates that were made since the last time."""
        known = max(self._accesses, default=0) if len(self._accesses) > overlap else 0
        for access in await access_store.accesses_after(self.tx, self.caller, known - overlap):
            self._accesses[access.access_id] = access
        known = max(self._gates, default=0) if len(self._gates) > overlap else 0
        gates = await access_store.gates_after(self.tx, self.caller, known - overlap)
        await self.learn(set().union(*gates.values()))
        self._gates.update(gates)

    def listed_gates(self, top: int | None = None) -> list[int]:
        """The gates that are open, and on whose way, below the directory with the gate `top`, all can be listed."""
        above = frozenset(self._gates[top]) if top is not None else frozenset()
        return [
            gate_id
            for gate_id, access_ids in list(self._gates.items())
            if self.passes(gate_id) and all(self.bits(a) & rules.READ for a in access_ids if a not in above)
        ]

    def unlisted(self, gate_id: int) -> list[int]:
        return [access_id for access_id in self._gates[gate_id] if not self.bits(access_id) & rules.READ]

    def readable(self) -> list[int]:
        return self.with_bits(rules.READ)

    def with_bits(self, bits: int) -> list[int]:
        """The known accesses that let the caller do this."""
        return [access_id for access_id in list(self._accesses) if self.bits(access_id) & bits]

    def access(self, access_id: int) -> Access:
        return self._accesses[access_id]

    def bits(self, access_id: int) -> int:
        """READ, WRITE and PASS, together."""
        if self.everything:
            return 7
        if (bits := self._bits.get(access_id)) is None:
            bits = self._bits[access_id] = rules.bits_of(self._accesses[access_id], self.caller)
        return bits

    def passes(self, gate_id: int) -> bool:
        """Whether the caller reaches what lies behind the gate."""
        if self.everything:
            return True
        if (is_open := self._open.get(gate_id)) is None:
            is_open = self._open[gate_id] = all(self.bits(a) & rules.PASS for a in self._gates[gate_id])
        return is_open

    def may_read(self, access_id: int, gate_id: int) -> bool:
        """Whether the caller may read a file of this access, in a directory with this gate."""
        return self.everything or bool(self.passes(gate_id) and self.bits(access_id) & rules.READ)

    def may_write(self, directory: Directory) -> bool:
        """Whether the caller may put names into the directory and take them out."""
        return self.everything or bool(self.passes(directory.gate_id) and self.bits(directory.access_id) & rules.WRITE)

    def may_take(self, directory: Directory, owner_id: int | None) -> bool:
        """Whether the caller may remove or move an entry of this owner out of the directory."""
        if self.everything:
            return True
        return self.passes(directory.gate_id) and rules.may_take(
            self.access(directory.access_id), owner_id, self.caller
        )

    def may_list(self, directory: Directory) -> bool:
        return self.everything or bool(self.passes(directory.gate_id) and self.bits(directory.access_id) & rules.READ)


class Sieve:
    """For searches: the gates of directories that may be found, and the accesses whose files may be read. None: all of
    the VO's."""

    def __init__(self, gates: list[int] | None, readable: list[int] | None) -> None:
        self.gates = gates
        self.readable = readable


async def permissions(tx: Tx, caller: Caller, directories: Iterable[Directory] = ()) -> Permissions:
    """The caller's permissions, with these directories learnt."""
    found = list(directories)
    return await Permissions(tx, caller).learn({d.access_id for d in found}, {d.gate_id for d in found})


async def sieve(tx: Tx, caller: Caller, top: Directory | None = None) -> Sieve:
    """All that the caller may find at and below a directory, which they may list, or anywhere in the VO.

    As for who walks down with `ls`: what lies below a directory that they may not list or pass stays unseen. Whoever
    knows the name of a directory below an unlisted one may start there. Reads only what is newer than what the process
    knows, and a little more: a row may become visible after one with a higher number.
    """
    if caller.may(Scope.FILES_MANAGE):
        return Sieve(None, None)
    mine = Permissions(tx, caller)
    await mine.learn_new(_OVERLAP)
    start = None
    if top is not None:
        await mine.learn([top.access_id], [top.gate_id])
        # The same unlisted access above and below the start cannot be told apart by gates: then nothing is shown.
        unlisted = mine.unlisted(top.gate_id)
        start = None if unlisted and await access_store.any_below(tx, caller, top.path, unlisted) else top.gate_id
    return Sieve(mine.listed_gates(start), mine.readable())
