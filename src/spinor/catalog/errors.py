"""What the catalog refuses."""

from spinor.errors import BadInput, Conflict, Denied, NotFound, Unavailable


class BadLFN(BadInput):
    """This is not a logical file name."""

    code = "bad-lfn"


class BadPFN(BadInput):
    """This is not a path below a storage element's root."""

    code = "bad-pfn"


class BadMetadata(BadInput):
    """A metadata key or value is refused."""

    code = "bad-metadata"


class PathOutsideVO(Denied):
    """The path is outside your VO."""

    code = "path-outside-vo"


class DirectoryDenied(Denied):
    """You may not write in this directory."""

    code = "directory-denied"


class UnknownLFN(NotFound):
    """There is no such file."""

    code = "unknown-lfn"


class UnknownDirectory(NotFound):
    """There is no such directory."""

    code = "unknown-directory"


class LFNExists(Conflict):
    """There is a different file or a directory of this name."""

    code = "lfn-exists"


class FileDiffers(Conflict):
    """The file is registered with another size or checksum."""

    code = "file-differs"


class GuidTaken(Conflict):
    """Another file of your VO has this guid; leave the guid out to get a new one."""

    code = "guid-taken"


class BytesLeaving(Conflict):
    """The bytes at this PFN are about to be deleted with a file that was removed; register them under another PFN."""

    code = "bytes-leaving"


class BadMove(Conflict):
    """This cannot be moved there."""

    code = "bad-move"


class KeyDeclaredOtherwise(Conflict):
    """The metadata key is declared with another type, or values of another type are stored under it."""

    code = "key-declared-otherwise"


class DirectoryNotEmpty(Conflict):
    """There is more in the directory than may go with it."""

    code = "directory-not-empty"


class DirectoryTooLarge(Conflict):
    """The directory holds too many files for one request; a file operation removes it in the background."""

    code = "directory-too-large"


class StillMoving(Unavailable):
    """Directories are being made or moved here by others; try again."""

    code = "still-moving"


class BadBatch(BadInput):
    """The batch is not an Arrow stream with the columns path, name and size_bytes."""

    code = "bad-batch"


class ReplicaReadOnly(Denied):
    """The file has bytes on a read-only storage element, from which they cannot be deleted."""

    code = "replica-read-only"


class CountersWrong(Conflict):
    """The counters of a directory do not agree with its files; nothing was changed. `spinor file fsck` shows where."""

    code = "counters-wrong"


class FileDenied(Denied):
    """You may not read this file."""

    code = "file-denied"


class QuotaExceeded(Conflict):
    """A quota would be exceeded; nothing was changed."""

    code = "quota-exceeded"


class UnknownReplica(NotFound):
    """The file has no replica there."""

    code = "unknown-replica"


class LastReplica(Conflict):
    """This is the last replica of the file."""

    code = "last-replica"


class PlaceTaken(Conflict):
    """Another file has its bytes there."""

    code = "place-taken"


class BadAccess(BadInput):
    """This is no mode, or no entry of an access control list."""

    code = "bad-access"


class AccessDenied(Denied):
    """Only the owner changes who may do what, and only `files:manage` gives to another owner."""

    code = "access-denied"


class UnknownUser(NotFound):
    """There is no such user in your VO."""

    code = "unknown-user"


class UnknownGroup(NotFound):
    """There is no such group in your VO."""

    code = "unknown-group"


class TreeTooLarge(Conflict):
    """The trees are too large for one transaction; change them by a file operation."""

    code = "tree-too-large"


class BadQuota(BadInput):
    """A quota is for a user, a directory or a storage element, and limits files or bytes."""

    code = "bad-quota"


class UnknownQuota(NotFound):
    """There is no such quota."""

    code = "unknown-quota"


class UnknownKey(NotFound):
    """There is no such declared metadata key."""

    code = "unknown-key"
