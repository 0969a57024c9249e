"""The schema, its migrations and every named query, held against a real PostgreSQL."""

import importlib.resources
import pkgutil
import re

import psycopg
import pytest
from psycopg import sql

import spinor
from spinor.db import Queries
from spinor.embedded.postgres import Cluster
from spinor.migrations import all_migrations, migrate, pending

PACKAGES = [
    module.name
    for module in pkgutil.walk_packages(spinor.__path__, "spinor.")
    if module.ispkg and importlib.resources.files(module.name).joinpath("queries.sql").is_file()
]
NAMED = [
    (package, name, text)
    for package in PACKAGES
    for file in ("queries.sql", "work.sql")
    if importlib.resources.files(package).joinpath(file).is_file()
    for name, text in Queries(package, file)
]
SEARCHES = [
    (package, name, text)
    for package in PACKAGES
    if importlib.resources.files(package).joinpath("search.sql").is_file()
    for name, text in Queries(package, "search.sql")
]
IDS = [f"{package}.{name}" for package, name, _ in NAMED]

# Everything that defines the tables, as text that does not depend on the order in which things were made.
CATALOG = """
SELECT 'column', n.nspname || '.' || c.relname || '.' || a.attname,
       format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull::text || ' ' || a.attidentity::text || ' '
       || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(l.collname, '')
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'S')
UNION ALL
SELECT 'relation', n.nspname || '.' || c.relname, c.relkind::text || coalesce(c.reloptions::text, '')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
UNION ALL
SELECT 'constraint', n.nspname || '.' || r.conrelid::regclass || '.' || r.conname, pg_get_constraintdef(r.oid)
  FROM pg_constraint r JOIN pg_namespace n ON n.oid = r.connamespace
UNION ALL
SELECT 'index', n.nspname || '.' || c.relname, pg_get_indexdef(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'I')
UNION ALL
SELECT 'type', n.nspname || '.' || t.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY 2
UNION ALL
SELECT 'routine', n.nspname || '.' || p.proname, pg_get_functiondef(p.oid)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.prokind <> 'a'
UNION ALL
SELECT 'trigger', t.tgrelid::regclass::text || '.' || t.tgname, pg_get_triggerdef(t.oid)
  FROM pg_trigger t WHERE NOT t.tgisinternal
"""


def contents(url: str) -> dict[tuple[str, str], str]:
    with psycopg.connect(url) as conn:
        rows = conn.execute(CATALOG).fetchall()
    ours = [
        row for row in rows if not re.match(r"(pg_|information_schema)", row[1]) and "spinor_migration" not in row[1]
    ]
    return {(kind, name): text for kind, name, text in ours}


@pytest.fixture
def empty_url(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    name = f"empty_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return cluster.url(name)


def test_migrations_build_exactly_the_schema(database_url: str, empty_url: str) -> None:
    text = importlib.resources.files("spinor").joinpath("schema.sql").read_text()
    with psycopg.connect(empty_url, autocommit=True) as conn:
        conn.execute(text.encode())
    assert contents(database_url) == contents(empty_url)


def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = contents(database_url)
    assert migrate(database_url) == []
    assert pending(database_url) == []
    assert contents(database_url) == before


def test_a_new_database_lacks_every_migration(empty_url: str) -> None:
    assert pending(empty_url) == [m.name for m in all_migrations()]


def numbered(text: str) -> str:
    """The statement with $1, $2 … for its named parameters, as PREPARE takes it."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match.group(1) not in names:
            names.append(match.group(1))
        return f"${names.index(match.group(1)) + 1}"

    return re.sub(r"%\((\w+)\)[sbt]", number, text).replace("%%", "%")


@pytest.mark.parametrize(("package", "name", "text"), NAMED, ids=IDS)
def test_query_is_valid(cluster: Cluster, template: str, package: str, name: str, text: str) -> None:
    with psycopg.connect(cluster.url(template)) as conn:
        conn.execute(f"PREPARE the_query AS {numbered(text)}".encode())


@pytest.mark.parametrize(("package", "name", "text"), NAMED + SEARCHES)
def test_query_keeps_to_one_vo_or_says_why_not(package: str, name: str, text: str) -> None:
    assert "%(vo_id)s" in text or re.search(r"^-- every VO: \S+", text, re.MULTILINE), (
        f"{package}.{name} neither filters by vo_id nor says why it looks at every VO"
    )


def test_every_tenant_table_carries_its_vo(database_url: str) -> None:
    shared = {
        "identity.user_account", "identity.membership", "identity.linked_identity", "identity.refresh_token",
        "identity.browser_session", "identity.spent", "identity.provider",
        "identity.voms_membership", "identity.proxy_request", "identity.online_ca", "identity.online_ca_name",
        "identity.provider_account", "identity.newcomer", "resources.site", "resources.computing_element",
        "resources.storage_element", "configuration.revision", "catalog.directory_location", "jobs.array_sandbox",
        "jobs.waiting", "jobs.delayed", "jobs.tally", "jobs.tally_live",
        "jobs.tally_change", "jobs.tally_now", "jobs.tally_part", "jobs.tally_mark", "jobs.tally_bound",
        "jobs.service_mark", "jobs.share_clock", "jobs.limit_state", "pilots.seen_offer", "pilots.node_mask",
        "resources.element_status", "resources.status_change", "resources.fitness_policy", "configuration.work_rules",
        "resources.place", "resources.storage",
        "identity.client", "identity.device_guess",
    }  # fmt: skip  # Shared by all VOs, or reached through a row that carries its VO only.
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            """SELECT table_schema || '.' || table_name FROM information_schema.tables t
                WHERE table_schema IN ('identity', 'resources', 'configuration', 'catalog', 'jobs', 'pilots')
                  AND NOT EXISTS (SELECT FROM information_schema.columns c
                                   WHERE (c.table_schema, c.table_name) = (t.table_schema, t.table_name)
                                     AND c.column_name = 'vo_id')"""
        ).fetchall()
    assert {row[0] for row in rows} == shared
