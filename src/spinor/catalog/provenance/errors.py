"""What the provenance of files refuses."""

from spinor.errors import BadInput, Conflict, Unavailable


class LineageCycle(Conflict):
    """A file cannot be made from itself."""

    code = "lineage-cycle"


class AncestorLeaving(Unavailable):
    """An ancestor is being removed or moved just now; look again in a moment."""

    code = "ancestor-leaving"


class TooManyRelatives(BadInput):
    """The lineage is larger than one answer; ask for fewer files, or with a smaller depth."""

    code = "too-many-relatives"
