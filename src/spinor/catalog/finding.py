"""Search over files: what a filter may name, and the statements around it."""

from psycopg import sql
from psycopg.sql import Composable

from spinor.catalog.models import MetadataKey, MetadataType
from spinor.search import And, Everything, Expression, Not, Operator, Or, Search, parse
from spinor.search.fields import Field, FieldKind, Fields

# The tree below a path, where only built-in fields are asked for.
FIND_PLAIN = sql.SQL("""
SELECT {select}
FROM catalog.directory AS d
JOIN catalog.file AS f USING (directory_id)
JOIN identity.user_account AS u ON u.user_id = f.owner_id
JOIN identity.vo_group AS g ON g.group_id = f.group_id
WHERE d.vo_id = %(vo_id)s::integer
  AND (d.path = %(path)s::text OR (d.path >= %(path)s::text || '/' AND d.path < %(path)s::text || '0'))
  AND {where}
ORDER BY {order}
LIMIT {limit}""")

# The same with the metadata of each directory: what holds for its parent, and over it what is set at itself.
FIND_INHERITED = sql.SQL("""
WITH RECURSIVE d (directory_id, path, metadata) AS (
    SELECT directory_id, path, %(inherited)s::jsonb || COALESCE(metadata, '{{}}')
    FROM catalog.directory
    WHERE vo_id = %(vo_id)s::integer AND path = %(path)s::text
    UNION ALL
    SELECT c.directory_id, c.path, p.metadata || COALESCE(c.metadata, '{{}}')
    FROM d AS p JOIN catalog.directory AS c ON c.parent_id = p.directory_id
)
SELECT {select}
FROM d
JOIN catalog.file AS f USING (directory_id)
JOIN identity.user_account AS u ON u.user_id = f.owner_id
JOIN identity.vo_group AS g ON g.group_id = f.group_id
WHERE f.vo_id = %(vo_id)s::integer AND {where}
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
    return sql.SQL(
        "EXISTS (SELECT FROM catalog.replica AS r JOIN resources.storage_element AS s USING (se_id)"
        " WHERE r.file_id = f.file_id AND {})"
    ).format(_SYMBOLS[operator].format(value))


_SIZE = Field("size", sql.SQL("f.size_bytes"), FieldKind.BYTES)
_BUILT_IN = {
    "lfn": Field("lfn", sql.SQL("(d.path || '/' || f.name)"), FieldKind.TEXT),
    "path": Field("path", sql.SQL("d.path"), FieldKind.TEXT),
    "name": Field("name", sql.SQL("f.name"), FieldKind.TEXT),
    "size": _SIZE,
    "size_bytes": Field("size_bytes", sql.SQL("f.size_bytes"), FieldKind.BYTES),
    "owner": Field("owner", sql.SQL("u.name"), FieldKind.TEXT),
    "group": Field("group", sql.SQL("g.name"), FieldKind.TEXT),
    "created": Field("created", sql.SQL("f.created_at"), FieldKind.TIMESTAMP),
    "adler32": Field("adler32", sql.SQL("lpad(to_hex(f.adler32), 8, '0')"), FieldKind.TEXT, nullable=True),
    "guid": Field("guid", sql.SQL("f.guid"), FieldKind.UUID),
    "se": Field(
        "se",
        sql.SQL(
            "(SELECT array_agg(s.name ORDER BY s.name) FROM catalog.replica AS r"
            " JOIN resources.storage_element AS s USING (se_id) WHERE r.file_id = f.file_id)"
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
    """The built-in fields, the VO's declared keys, and undeclared ones under which something is stored.

    Remembers whether a key was asked for: inheriting costs.
    """

    def __init__(self, keys: list[MetadataKey], undeclared: list[MetadataKey]) -> None:
        others = {key.name: _metadata_field(key) for key in undeclared}
        super().__init__({key.name: _metadata_field(key) for key in keys} | _BUILT_IN, dynamic=others.get)
        self._keys = {key.name for key in [*keys, *undeclared]}
        self.inherits = False

    def find(self, name: str, *place: object) -> Field:
        self.inherits = self.inherits or name in self._keys
        return super().find(name, *place)  # type: ignore[arg-type]


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
    value = sql.SQL("COALESCE(f.metadata -> {}, d.metadata -> {})").format(name, name)
    template, kind = _TEMPLATES[key.type]
    return Field(key.name, template.format(v=value), kind, nullable=True)
