"""What a query over files may name: built-in fields, DIRAC's names for them, and metadata keys.

SQL here speaks of a directory `d` and a file `f`. Owner, group and storage elements are compared through arrays of ids
that PostgreSQL fetches once per statement.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum

from psycopg import sql
from psycopg.sql import Composable

from spinor.catalog.models import FileStatus, MetadataKey, MetadataType
from spinor.catalog.rules import DIRAC_NAMES
from spinor.search import And, Everything, Expression, Not, Operator, Or
from spinor.search.fields import Field, FieldKind, Fields


class Level(IntEnum):
    """What a field depends on."""

    DIRECTORY = 0
    INHERITED = 1  # On the directory, unless the file says otherwise.
    FILE = 2


def _set_of_ids(column: str, table: str, name: str) -> Callable[[Operator, Composable], Composable]:
    """Compare the name of what an id stands for: `column`, with a place for the array of the ids that are meant."""

    def condition(operator: Operator, value: Composable) -> Composable:
        match operator:
            case Operator.EXISTS:
                told: Composable = sql.SQL(f"{name} IS NOT NULL")
            case Operator.IN:
                told = sql.SQL(f"{name} = ANY ({{}})").format(value)
            case _:
                told = sql.SQL(f"{name} {operator.value.upper()} {{}}").format(value)
        return sql.SQL(column).format(sql.SQL("ARRAY(SELECT {} AND {})").format(sql.SQL(table), told))

    return condition


_OWNER = (
    "a.access_id FROM catalog.access AS a JOIN identity.user_account AS u ON u.user_id = a.owner_id"
    " WHERE a.vo_id = %(vo_id)s::integer"
)
_GROUP = (
    "a.access_id FROM catalog.access AS a LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id"
    " WHERE a.vo_id = %(vo_id)s::integer"
)
_MODE = "concat(a.mode >> 9, a.mode >> 6 & 7, a.mode >> 3 & 7, a.mode & 7)"
_TEXT = FieldKind.TEXT

_OWNER_NAME = sql.SQL(
    "(SELECT u.name FROM catalog.access AS a JOIN identity.user_account AS u ON u.user_id = a.owner_id"
    " WHERE a.access_id = {})"
)
_GROUP_NAME = sql.SQL(
    "(SELECT g.name FROM catalog.access AS a JOIN identity.vo_group AS g ON g.group_id = a.group_id"
    " WHERE a.access_id = {})"
)
_MODE_TEXT = sql.SQL(
    "(SELECT concat(a.mode >> 9, a.mode >> 6 & 7, a.mode >> 3 & 7, a.mode & 7) FROM catalog.access AS a"
    " WHERE a.access_id = {})"
)
_SE_NAME = sql.SQL("(SELECT s.name FROM resources.storage_element AS s WHERE s.se_id = {})")
_ACCESS_ID = sql.SQL("f.access_id")

_FIELDS = (
    Field("lfn", sql.SQL("(d.path || '/' || f.name)"), _TEXT, summable=False),
    Field("path", sql.SQL("d.path"), _TEXT),
    Field("name", sql.SQL("f.name"), _TEXT, summable=False),
    Field("size", sql.SQL("f.size_bytes"), FieldKind.BYTES, summable=False),
    Field("size_bytes", sql.SQL("f.size_bytes"), FieldKind.BYTES, summable=False),
    Field(
        "owner", _OWNER_NAME.format(_ACCESS_ID), _TEXT,
        condition=_set_of_ids("f.access_id = ANY ({})", _OWNER, "u.name"),
    ),
    Field(
        "group", _GROUP_NAME.format(_ACCESS_ID), _TEXT, nullable=True,
        condition=_set_of_ids("f.access_id = ANY ({})", _GROUP, "g.name"),
    ),
    Field(
        "mode", _MODE_TEXT.format(_ACCESS_ID), _TEXT, condition=_set_of_ids("f.access_id = ANY ({})", _GROUP, _MODE)
    ),
    Field("created", sql.SQL("f.created_at"), FieldKind.TIMESTAMP, summable=False),
    Field("modified", sql.SQL("COALESCE(f.modified_at, f.created_at)"), FieldKind.TIMESTAMP, summable=False),
    Field("replicas", sql.SQL("cardinality(f.se_ids)"), FieldKind.INTEGER),
    Field("status", sql.SQL("COALESCE(f.status, 'available')::text"), FieldKind.ENUM, values=tuple(FileStatus)),
    Field("sha256", sql.SQL("encode(f.sha256, 'hex')"), _TEXT, nullable=True, summable=False),
    Field("adler32", sql.SQL("lpad(to_hex(f.adler32), 8, '0')"), _TEXT, nullable=True, summable=False),
    Field("guid", sql.SQL("f.guid"), FieldKind.UUID, summable=False),
    Field(
        "se",
        sql.SQL(
            "(SELECT array_agg(s.name ORDER BY s.name) FROM resources.storage_element AS s"
            " WHERE s.se_id = ANY (f.se_ids))"
        ),
        _TEXT, sortable=False, nullable=True,
        # every VO: storage elements belong to no VO.
        condition=_set_of_ids("f.se_ids && {}", "s.se_id FROM resources.storage_element AS s WHERE TRUE", "s.name"),
    ),
)  # fmt: skip
BUILT_IN = {field.name: field for field in _FIELDS}

# What a facet counts in a file, and how the value that is shown follows from it; by default the field itself.
FACETS: dict[str, tuple[Composable, sql.SQL]] = {
    "owner": (_ACCESS_ID, _OWNER_NAME),
    "group": (_ACCESS_ID, _GROUP_NAME),
    "mode": (_ACCESS_ID, _MODE_TEXT),
    "se": (sql.SQL("unnest(CASE WHEN f.se_ids = '{}' THEN ARRAY[NULL::integer] ELSE f.se_ids END)"), _SE_NAME),
}

# How a value is read as its key's type. What was stored before its key was declared, and does not fit, is as if it
# were missing; no stored value can make a query fail.
_INTEGER = (
    "(CASE WHEN jsonb_typeof({v}) = 'number' THEN"
    " CASE WHEN ({v})::numeric %% 1 = 0 AND abs(({v})::numeric) < 9223372036854775808 THEN ({v})::bigint END END)"
)
_FLOAT = (
    "(CASE WHEN jsonb_typeof({v}) = 'number' THEN"
    " CASE WHEN abs(({v})::numeric) < 1.797e308 THEN ({v})::double precision END END)"
)
_STRING = "(CASE WHEN jsonb_typeof({v}) = 'string' THEN {v} #>> '{{}}' END)"
_BOOLEAN = "(CASE WHEN jsonb_typeof({v}) = 'boolean' THEN ({v})::boolean END)"
_INSTANT = (
    "(CASE WHEN {v} #>> '{{}}' ~ '^[0-9]{{4}}-' AND pg_input_is_valid({v} #>> '{{}}', 'timestamptz')"
    " THEN ({v} #>> '{{}}')::timestamptz END)"
)
_TYPED: dict[MetadataType, tuple[str, FieldKind]] = {
    MetadataType.INTEGER: (_INTEGER, FieldKind.INTEGER),
    MetadataType.FLOAT: (_FLOAT, FieldKind.FLOAT),
    MetadataType.TEXT: (_STRING, FieldKind.TEXT),
    MetadataType.BOOLEAN: (_BOOLEAN, FieldKind.BOOLEAN),
    MetadataType.TIMESTAMP: (_INSTANT, FieldKind.TIMESTAMP),
}
_TEMPLATES = {kind: (sql.SQL(text), field) for kind, (text, field) in _TYPED.items()}
_LOOSE_TEXT = sql.SQL("({v} #>> '{{}}')")  # Of an undeclared key: whatever is stored, as text.
_OF_DIRECTORY = sql.SQL("d.effective -> {}")
_OF_FILE = sql.SQL("COALESCE(f.metadata -> {}, d.effective -> {})")


class FileFields(Fields):
    """The fields of files in a VO with these keys; with `level` DIRECTORY, metadata is what holds in a directory."""

    def __init__(
        self, keys: Iterable[MetadataKey], undeclared: Iterable[MetadataKey], level: Level = Level.FILE
    ) -> None:
        self.keys = {key.name: key for key in keys}
        self.undeclared = {key.name: key for key in undeclared}
        metadata = {key.name: _metadata_field(key, level, declared=True) for key in self.keys.values()}
        others = {key.name: _metadata_field(key, level, declared=False) for key in self.undeclared.values()}
        others |= {alias: BUILT_IN[name] for alias, name in DIRAC_NAMES.items() if alias not in metadata | others}
        super().__init__(metadata | BUILT_IN, dynamic=others.get)

    def level(self, field: Field) -> Level:
        if field.name in self.keys or field.name in self.undeclared:
            return Level.INHERITED if field.name not in BUILT_IN else Level.FILE
        return Level.DIRECTORY if field.name == "path" else Level.FILE

    def at(self, level: Level) -> "FileFields":
        return FileFields(self.keys.values(), self.undeclared.values(), level)


def unknown_names(asked: Iterable[str], expression: Expression, keys: Iterable[MetadataKey]) -> list[str]:
    """The names that are neither built in nor declared; at most 50, each costs a look."""
    names = {name.lstrip("+-") for name in asked} | named(expression)
    return sorted(names - {key.name for key in keys} - BUILT_IN.keys())[:50]


def named(expression: Expression) -> set[str]:
    """The names of all fields in an expression."""
    match expression:
        case Everything():
            return set()
        case Not(part):
            return named(part)
        case And(parts) | Or(parts):
            return set().union(*map(named, parts))
        case _:
            return {expression.field.text}


def undeclared_key(name: str, value: object) -> MetadataKey:
    """What a stored value lets one guess of its key."""
    match value:
        case bool():
            return MetadataKey(name=name, type=MetadataType.BOOLEAN)
        case int() | float():
            return MetadataKey(name=name, type=MetadataType.FLOAT)
        case _:
            return MetadataKey(name=name, type=MetadataType.TEXT)


def _metadata_field(key: MetadataKey, level: Level, *, declared: bool) -> Field:
    name = sql.Literal(key.name)
    value = _OF_DIRECTORY.format(name) if level is Level.DIRECTORY else _OF_FILE.format(name, name)
    template, kind = _TEMPLATES[key.type]
    if not declared and key.type is MetadataType.TEXT:
        template = _LOOSE_TEXT
    return Field(key.name, template.format(v=value), kind, nullable=True)
