"""What datasets refuse."""

from spinor.errors import BadInput, Conflict, Denied, NotFound


class BadDatasetName(BadInput):
    """A dataset's name has 1 to 1,024 bytes, and no control characters."""

    code = "bad-dataset-name"


class DatasetExists(Conflict):
    """There is a dataset of this name in your VO; choose another name."""

    code = "dataset-exists"


class UnknownDataset(NotFound):
    """There is no such dataset in your VO; see `spinor file dataset list`."""

    code = "unknown-dataset"


class UnknownVersion(NotFound):
    """The dataset has no such version; see `spinor file dataset versions`."""

    code = "unknown-version"


class DatasetDenied(Denied):
    """You may not read or change this dataset; ask its owner."""

    code = "dataset-denied"


class DatasetFrozen(Conflict):
    """The dataset is frozen; release it first."""

    code = "dataset-frozen"
