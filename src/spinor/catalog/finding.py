"""Search over files: what a filter may name, and the statements around it."""

from psycopg import sql
from psycopg.sql import Composable

from spinor.catalog.models import FileStatus, MetadataKey, MetadataType
from spinor.search import And, Everything, Expression, Not, Operator, Or, Search, parse
from spinor.search.fields import Field, FieldKind, Fields

# The files of a tree that the caller may read.
FIND = sql.SQL("""
SELECT {select}
FROM catalog.directory AS d
JOIN catalog.file AS f USING (directory_id)
JOIN catalog.access AS a ON a.access_id = f.access_id
JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text)
  AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR d.access_id = ANY (%(readable)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR f.access_id = ANY (%(readable)s::integer[]))
  AND {where}
ORDER BY {order}
LIMIT {limit}""")

_SYMBOLS = {
    Operator.EQ: sql.SQL("s.name = {}"),
    Operator.NE: sql.SQL("s.name <> {}"),
    Operator.LT: sql.SQL("s.name < {}"),
    Operator.LE: sql.SQL("s.name <= {}"),
    Operator.GT: sql.SQL("s.name > {}"),
    Operator.GE: sql.SQL("s.name >= {}"),
    Operator.LIKE: sql.SQL("s.name LIKE {}"),
    Operator.IN: sql.SQL("s.name = ANY ({})"),
    Operator.EXISTS: sql.SQL("TRUE {}"),
}


def _on_se(operator: Operator, value: Composable) -> Composable:
    return sql.SQL("EXISTS (SELECT FROM resources.storage_element AS s WHERE s.se_id = ANY (f.se_ids) AND {})").format(
        _SYMBOLS[operator].format(value)
    )


_SIZE = Field("size", sql.SQL("f.size_bytes"), FieldKind.BYTES)
_BUILT_IN = {
    "lfn": Field("lfn", sql.SQL("(d.path || '/' || f.name)"), FieldKind.TEXT),
    "path": Field("path", sql.SQL("d.path"), FieldKind.TEXT),
    "name": Field("name", sql.SQL("f.name"), FieldKind.TEXT),
    "size": _SIZE,
    "size_bytes": Field("size_bytes", sql.SQL("f.size_bytes"), FieldKind.BYTES),
    "owner": Field("owner", sql.SQL("u.name"), FieldKind.TEXT),
    "group": Field("group", sql.SQL("g.name"), FieldKind.TEXT, nullable=True),
    "mode": Field("mode", sql.SQL("concat(a.mode >> 9, a.mode >> 6 & 7, a.mode >> 3 & 7, a.mode & 7)"), FieldKind.TEXT),
    "created": Field("created", sql.SQL("f.created_at"), FieldKind.TIMESTAMP),
    "modified": Field("modified", sql.SQL("COALESCE(f.modified_at, f.created_at)"), FieldKind.TIMESTAMP),
    "replicas": Field("replicas", sql.SQL("cardinality(f.se_ids)"), FieldKind.INTEGER),
    "status": Field(
        "status",
        sql.SQL("COALESCE(f.status, 'available')::text"),
        FieldKind.ENUM,
        values=tuple(FileStatus),
    ),
    "sha256": Field("sha256", sql.SQL("encode(f.sha256, 'hex')"), FieldKind.TEXT, nullable=True),
    "adler32": Field("adler32", sql.SQL("lpad(to_hex(f.adler32), 8, '0')"), FieldKind.TEXT, nullable=True),
    "guid": Field("guid", sql.SQL("f.guid"), FieldKind.UUID),
    "se": Field(
        "se",
        sql.SQL(
            "(SELECT array_agg(s.name ORDER BY s.name) FROM resources.storage_element AS s"
            " WHERE s.se_id = ANY (f.se_ids))"
        ),
        FieldKind.TEXT,
        sortable=False,
        summable=False,
        nullable=True,
        condition=_on_se,
    ),
}

# A value that was stored before its key was declared, and does not fit, is as if it were missing.
_TYPED: dict[MetadataType, tuple[str, FieldKind]] = {
    MetadataType.INTEGER: ("(CASE jsonb_typeof({v}) WHEN 'number' THEN ({v})::bigint END)", FieldKind.INTEGER),
    MetadataType.FLOAT: ("(CASE jsonb_typeof({v}) WHEN 'number' THEN ({v})::double precision END)", FieldKind.FLOAT),
    MetadataType.TEXT: ("({v} #>> '{{}}')", FieldKind.TEXT),
    MetadataType.BOOLEAN: ("(CASE jsonb_typeof({v}) WHEN 'boolean' THEN ({v})::boolean END)", FieldKind.BOOLEAN),
    MetadataType.TIMESTAMP: (
        "(CASE jsonb_typeof({v}) WHEN 'string' THEN ({v} #>> '{{}}')::timestamptz END)",
        FieldKind.TIMESTAMP,
    ),
}
_TEMPLATES = {kind: (sql.SQL(text), field) for kind, (text, field) in _TYPED.items()}


class FileFields(Fields):
    """The built-in fields, the VO's declared keys, and undeclared ones under which something is stored."""

    def __init__(self, keys: list[MetadataKey], undeclared: list[MetadataKey]) -> None:
        others = {key.name: _metadata_field(key) for key in undeclared}
        super().__init__({key.name: _metadata_field(key) for key in keys} | _BUILT_IN, dynamic=others.get)


def unknown_names(search: Search, keys: list[MetadataKey]) -> set[str]:
    """The names in a search that are neither built in nor declared; at most 50, each costs a look. Raises BadQuery."""
    asked = {name.lstrip("+-") for name in [*search.sort, *(search.fields or [])]} | _named(parse(search.where))
    return set(sorted(asked - {key.name for key in keys} - _BUILT_IN.keys())[:50])


def _named(expression: Expression) -> set[str]:
    match expression:
        case Everything():
            return set()
        case Not(part):
            return _named(part)
        case And(parts) | Or(parts):
            return set().union(*map(_named, parts))
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


def _metadata_field(key: MetadataKey) -> Field:
    name = sql.Literal(key.name)
    value = sql.SQL("COALESCE(f.metadata -> {}, d.effective -> {})").format(name, name)
    template, kind = _TEMPLATES[key.type]
    return Field(key.name, template.format(v=value), kind, nullable=True)
