"""What is refused of operations."""

from spinor.errors import BadInput, Conflict, NotFound


class UnknownOperation(NotFound):
    """There is no such operation of yours; see `spinor file operation list`."""

    code = "unknown-operation"


class OperationEnded(Conflict):
    """The operation is not in a state from which this is possible."""

    code = "operation-state"


class KeyReused(Conflict):
    """This idempotency key was used for another operation; use a new key for each."""

    code = "idempotency-key-reused"


class TopOfVO(Conflict):
    """The top directory of a VO is not removed."""

    code = "top-of-vo"


class BadOperation(BadInput):
    """The operation's arguments do not fit together."""

    code = "bad-operation"


class TreeMoved(Conflict):
    """The tree was moved while the operation worked on it, so it stopped; ask again with the new path."""

    code = "tree-moved"
