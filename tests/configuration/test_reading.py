"""Documents with faults: each is found, with its place and its line, and nothing breaks the reader."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.access import SCOPES_BY_PROPERTY
from spinor.configuration import service
from spinor.configuration.checking import BadConfiguration, read_document, schema
from spinor.configuration.models import Document
from spinor.configuration.reading import LARGEST_DOCUMENT_BYTES, Source

GOOD = """\
vos:
  astro:
    groups:
      admins:
        properties: [configuration_administrator]
        members: [ada]
users:
  ada: {full_name: Ada Lovelace, email: ada@example.org}
sites:
  LOCAL:
    computing_elements:
      ce: {plugin: local, cores: 2, memory_bytes: 4GiB, wall_s: 1h30m, max_pilots: 0, vos: [astro]}
    storage_elements:
      se: {plugin: file, root: /srv/data, vos: [astro]}
"""


def faults(text: str) -> list[tuple[int, str, str]]:
    return [(fault.line, fault.path, fault.message) for fault in service.validate(text).faults]


def only(text: str) -> tuple[int, str, str]:
    found = faults(text)
    assert len(found) == 1, found
    return found[0]


def test_a_good_document_has_none() -> None:
    assert service.validate(GOOD).valid
    assert read_document(GOOD).sites["LOCAL"].computing_elements["ce"].memory_bytes == "4GiB"


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "words"),
    [
        ("[ada]", "[ada, bob]", 6, "vos.astro.groups.admins.members[1]", "there is no user 'bob'"),
        ("[ada]", "[ada, ada]", 6, "vos.astro.groups.admins.members[1]", "twice"),
        ("[ada]", "[]", 1, "vos", "nobody could ever change this"),
        ("configuration_administrator", "configuration_administrtor", 5, "vos.astro.groups.admins.properties[0]",
         "did you mean 'configuration_administrator'?"),
        ("  astro:", "  as tro:", 2, "vos.as tro", "letters"),
        ("  astro:", "  _astro:", 2, "vos._astro", "letters"),
        ("  astro:", "  ../x:", 2, "vos.../x", "letters"),
        ("  ada: {", "  ada: {full_nam: x, ", 8, "users.ada.full_nam", "did you mean 'full_name'?"),
        ("ada@example.org}", "ada@example.org, subject: me}", 8, "users.ada.subject", "Invalid UUID"),
        ("Ada Lovelace", '"Ada\\nLovelace"', 8, "users.ada.full_name", "matching regex"),
        ("Ada Lovelace", "7", 8, "users.ada.full_name", "Expected str"),
        ("plugin: local", "plugin: slurmm", 12, "sites.LOCAL.computing_elements.ce.plugin", "no plugin 'slurmm'"),
        ("cores: 2", "cores: 0", 12, "sites.LOCAL.computing_elements.ce.cores", ">= 1"),
        ("cores: 2", "cores: two", 12, "sites.LOCAL.computing_elements.ce.cores", "Expected int"),
        ("cores: 2, ", "", 12, "sites.LOCAL.computing_elements.ce", "'cores' is missing"),
        ("4GiB", "4 Gigabytes", 12, "sites.LOCAL.computing_elements.ce.memory_bytes", "such as 500MB"),
        ("4GiB", "0", 12, "sites.LOCAL.computing_elements.ce.memory_bytes", ">= 1"),
        ("4GiB", "0GB", 12, "sites.LOCAL.computing_elements.ce.memory_bytes", "more than nothing"),
        ("1h30m", "soon", 12, "sites.LOCAL.computing_elements.ce.wall_s", "such as 90m"),
        ("1h30m", "-5", 12, "sites.LOCAL.computing_elements.ce.wall_s", ">= 1"),
        ("vos: [astro]}\n    storage", "vos: [bio]}\n    storage", 12, "sites.LOCAL.computing_elements.ce.vos[0]",
         "there is no VO 'bio'"),
        ("vos: [astro]}\n    storage", "vos: astro}\n    storage", 12, "sites.LOCAL.computing_elements.ce.vos",
         "must be a list"),
        ("/srv/data", "srv/data", 14, "sites.LOCAL.storage_elements.se.root", "absolute"),
        ("sites:", "quotas: 3\nsites:", 9, "quotas", "there is no 'quotas' here"),
        ("users:", "users: []\nusrs:", 7, "users", "must be a mapping"),
        ("  ada: {", "  ada: {}\n  ada: {", 9, "users.ada", "twice; the first is in line 8"),
        ("  ada: {", "  yes: {}\n  ada: {", 8, "users.yes", "quotes"),
        ("  ada: {", "  12: {}\n  ada: {", 8, "users.12", "quotes"),
    ],
)  # fmt: skip
def test_one_fault(old: str, new: str, line: int, path: str, words: str) -> None:
    assert old in GOOD
    found = [fault for fault in faults(GOOD.replace(old, new, 1)) if fault[1] == path]
    assert len(found) == 1, faults(GOOD.replace(old, new, 1))
    assert found[0][0] == line
    assert words in found[0][2]


def test_all_faults_are_reported_at_once() -> None:
    text = """\
vos:
  astro:
    groups:
      users: {properties: [normal_usr], members: [bob]}
users:
  ada: {mail: x}
sites:
  LOCAL:
    computing_elements:
      ce: {plugin: slurmm, cores: none, memory_bytes: much, wall_s: 1h, max_pilots: 1, vos: [bio]}
  OTHER:
    computing_elements:
      ce: {plugin: local, cores: 1, memory_bytes: 1GB, wall_s: 1h, max_pilots: 1}
      half:
"""
    found = faults(text)
    assert [line for line, _, _ in found] == [4, 4, 6, 10, 10, 10, 10, 13, 14, 14, 14, 14, 14]
    with pytest.raises(BadConfiguration) as caught:
        read_document(text)
    assert caught.value.message.count("\n") == 13
    assert "line 4: vos.astro.groups.users.members[0]: there is no user 'bob'" in caught.value.message
    assert (caught.value.status, len(caught.value.facts["faults"])) == (422, 13)


def test_memory_may_be_a_plain_number_of_bytes() -> None:
    assert service.validate(GOOD.replace("4GiB", "64000000000")).valid


def test_two_people_are_not_one() -> None:
    subject = "7d8f3a1e-0000-4000-8000-000000000001"
    text = GOOD.replace("users:\n", f"users:\n  al: {{subject: {subject}}}\n  ba: {{subject: {subject}}}\n")
    assert only(text)[:2] == (9, "users.ba.subject")


def test_what_is_empty_may_be_left_empty() -> None:
    assert service.validate(GOOD.replace("{full_name: Ada Lovelace, email: ada@example.org}", "")).valid
    assert service.validate(GOOD + "  EMPTY:\n  HALF:\n    storage_elements:\n").valid


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "nobody could ever change"),
        ("vos: [", 2, "not YAML"),
        ("a:\n\tb: 1", 2, "not YAML"),
        ("x: &a 1\ny: *a", 1, "anchors"),
        ("x: 1\ny: *a", 2, "anchors"),
        ("x: !!python/object/apply:os.system [id]", 1, "tags"),
        ("x: !!binary aGk=", 1, "tags"),
        ("? [a, b]\n: 1", 1, "must be plain text"),
        ("[" * 5000, 1, "nested deeper"),
        ("{a: " * 5000, 1, "nested deeper"),
        ("a: \x00", 1, "not YAML"),
        ("just text", 1, "must be a mapping"),
        ("- a", 1, "must be a mapping"),
        ("a: .inf", 1, "not a number"),
        ("a: " + "9" * 6000, 1, "not a number"),
        ("vos: {}\n---\nvos: {}", 3, "second document"),
        ("# " + "x" * LARGEST_DOCUMENT_BYTES, 1, "larger than"),
    ],
)
def test_what_is_no_document(text: str, line: int, words: str) -> None:
    found = faults(text)
    assert any(at == line and words in message for at, _, message in found), found


def test_a_bomb_of_aliases_does_not_go_off() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{o}, *{o}]\n" for o, n in zip("abcdefgh", "bcdefghi", strict=True))
    assert "anchors" in only(bomb)[2]


def test_dates_and_the_like_stay_text() -> None:
    options = "options: {since: 2026-11-23, port: 8443, big: 4000000000, 'off': off}"
    document = read_document(GOOD.replace("vos: [astro]}\n    storage", f"vos: [astro], {options}}}\n    storage"))
    found = document.sites["LOCAL"].computing_elements["ce"].options
    assert found["since"] == "2026-11-23"
    assert (found["port"], found["big"], found["off"]) == (8443, 4_000_000_000, False)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    service.validate(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_to_a_good_document_breaks_the_reader(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD)))
    cut = data.draw(st.integers(0, 20))
    insert = data.draw(st.text("{}[]:,-&*!|>'\"#%@\n \t0aé\u2028", max_size=5))
    source = Source(GOOD[:place] + insert + GOOD[place + cut :])
    service.validate(GOOD[:place] + insert + GOOD[place + cut :])
    assert all(fault.line >= 1 for fault in source.faults)


def test_the_schema_is_of_this_document() -> None:
    published = schema()
    assert published["$schema"].endswith("2020-12/schema")
    sections = published["$defs"]
    assert set(sections["Document"]["properties"]) == set(Document.__struct_fields__)
    objects = [section for section in sections.values() if section.get("type") == "object"]
    assert all(section["additionalProperties"] is False for section in objects)
    properties = sections["GroupSection"]["properties"]["properties"]["items"]["enum"]
    assert set(properties) == set(SCOPES_BY_PROPERTY)
