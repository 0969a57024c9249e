"""DIRAC's FileCatalogDB in this process, on a database of its own, and names to fill it with."""

import contextlib
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

from DIRAC import gLogger
from DIRAC.ConfigurationSystem.Client.ConfigurationData import gConfigurationData
from DIRAC.DataManagementSystem.DB.FileCatalogDB import FileCatalogDB

DATABASE = "FileCatalogDB"
# Who may do everything. Permission checks cost an ordinary user of DIRAC 5 to 8 % more.
ADMIN = {
    "DN": "/CN=bench", "username": "user00", "group": "group00", "VO": "vo", "properties": ["FileCatalogManagement"],
}  # fmt: skip
# With one storage element and one user MariaDB's optimizer scans whole tables, which no real catalog suffers from.
ELEMENTS = [f"SE-{number:03}" for number in range(100)]
USED_ELEMENTS = 20
USERS, GROUPS = 50, 20

# As ConfigTemplate.cfg of the package has them, which the service then completes like this.
_SERVICE = {
    "UserGroupManager": "UserAndGroupManagerDB",
    "SEManager": "SEManagerDB",
    "DirectoryMetadata": "DirectoryMetadata",
    "FileMetadata": "FileMetadata",
    "DatasetManager": "DatasetManager",
    "GlobalReadAccess": True,
    "LFNPFNConvention": "Strong",
    "ResolvePFN": True,
    "DefaultUmask": 0o775,
    "ValidFileStatus": ["AprioriGood", "Trash", "Removing", "Probing"],
    "ValidReplicaStatus": ["AprioriGood", "Trash", "Removing", "Probing"],
    "VisibleFileStatus": ["AprioriGood"],
    "VisibleReplicaStatus": ["AprioriGood"],
}
FAST = _SERVICE | {
    "SecurityManager": "VOMSSecurityManager",
    "DirectoryManager": "DirectoryClosure",
    "FileManager": "FileManagerPs",
    "UniqueGUID": True,
}
PLAIN = _SERVICE | {
    "SecurityManager": "NoSecurityManager",
    "DirectoryManager": "DirectoryLevelTree",
    "FileManager": "FileManager",
    "UniqueGUID": False,
}


class Refused(Exception):
    """DIRAC answered with an error, or refused a part of what it was asked for."""


def value(answer: dict[str, Any]) -> Any:
    """What an answer holds. DIRAC raises nothing, so nobody must forget to look."""
    if not answer["OK"]:
        raise Refused(answer["Message"])
    found = answer["Value"]
    if isinstance(found, dict) and found.get("Failed"):
        raise Refused(f"{len(found['Failed'])} refused, for example {next(iter(found['Failed'].items()))}")
    return found


def opened(managers: dict[str, Any], port: int, password: str) -> FileCatalogDB:
    """The catalog with its users, groups and storage elements, and an empty /vo."""
    gLogger.setLevel("WARN")
    where = {"Host": "127.0.0.1", "Port": str(port), "User": "Dirac", "Password": password, "DBName": DATABASE}
    for name, word in where.items():
        gConfigurationData.setOptionInCFG(f"/Systems/DataManagement/Databases/{DATABASE}/{name}", word)
    catalog = FileCatalogDB(f"DataManagement/{DATABASE}")
    value(catalog.setConfig(managers))
    for number in range(USERS):
        value(catalog.addUser(f"user{number:02}", ADMIN))
    for number in range(GROUPS):
        value(catalog.addGroup(f"group{number:02}", ADMIN))
    for element in ELEMENTS:
        value(catalog.addSE(element, ADMIN))
    value(catalog.createDirectory({"/vo": True}, ADMIN))
    return catalog


def directory(number: int) -> str:
    return f"/vo/prod/{number // 100:04}/run{number:06}"


def batch(path: str, count: int) -> dict[str, dict[str, Any]]:
    """So many files of one directory, each with size, guid, checksum and one replica."""
    files = {}
    for number in range(count):
        lfn = f"{path}/events_{number:011}.data"
        digest = hashlib.sha256(lfn.encode()).digest()
        files[lfn] = {
            "PFN": "",
            "SE": ELEMENTS[number % USED_ELEMENTS],
            "Size": int.from_bytes(digest[16:20], "big"),
            "GUID": str(uuid.UUID(bytes=digest[:16])).upper(),
            "Checksum": digest[20:24].hex(),
        }
    return files


def batches(directories: int, per_directory: int, first: int = 0) -> Iterator[dict[str, dict[str, Any]]]:
    for number in range(first, first + directories):
        yield batch(directory(number), per_directory)


@contextlib.contextmanager
def hasty(catalog: FileCatalogDB) -> Iterator[None]:
    """Let no commit wait for the disk while the catalog is filled, which is not measured."""
    value(catalog._update("SET GLOBAL innodb_flush_log_at_trx_commit = 0"))
    yield
    value(catalog._update("SET GLOBAL innodb_flush_log_at_trx_commit = 1"))


def analyze(catalog: FileCatalogDB) -> None:
    """Fresh statistics, without which MariaDB may go on planning for the empty catalog."""
    for (table,) in value(catalog._query("SHOW TABLES")):
        value(catalog._query(f"ANALYZE TABLE `{table}`"))


def stored_bytes(catalog: FileCatalogDB) -> int:
    """Data and indexes, in whole pages of 16 KiB, as the statistics have them."""
    rows = value(
        catalog._query(
            "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
    )
    return int(rows[0][0])
