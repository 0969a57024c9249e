"""What is shown of names that somebody else has chosen: text, and never mark-up, script, link or secret."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from spinor.api.files import FileSet
from spinor.api.grid import Grid, Me
from spinor.api.job import Job
from spinor.api.login import Invitation
from spinor.api.rendering import Shown, esc
from spinor.api.sets import JobSet
from spinor.client import Client
from spinor.identity.models import Membership, WhoAmI
from spinor.jobs.models import Job as JobModel
from spinor.jobs.models import JobIds, JobRow, JobSpec, JobStatus

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<button data-commandlinker-command='docmanager:open' data-commandlinker-args='{}'>x</button>",
    "<a href='jav&#x09;ascript:alert(1)'>x</a>",
    "</td></tr></table><style>*{display:none}</style>",
    "<!--<img src='--><img src=x onerror=alert(1)//'>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "$$\\require{html}\\href{javascript:alert(1)}{x}$$",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "a\u202egnp.exe",
    "\x1b]0;title\x07\x1b[31mred",
    "line\r\nbreak\x00null",
    "{{constructor.constructor('alert(1)')()}}",
]
_TAGS = {"div", "span", "table", "thead", "tbody", "tr", "th", "td", "b", "br", "pre", "a"}
_ATTRIBUTES = {"style", "title", "href", "target", "rel"}


class Reader(HTMLParser):
    """Reads HTML as a browser does, and refuses whatever is not ours."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.open = "", list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS, tag
        assert {name for name, _ in attrs} <= _ATTRIBUTES, attrs
        for name, value in attrs:
            if name == "href":
                assert (value or "").startswith("https://spinor.example.org/"), value
            if name == "style":
                assert "expression" not in (value or "")
                assert "url(" not in (value or "")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(shown: Shown) -> str:
    reader = Reader()
    reader.feed(shown.html())
    reader.close()
    assert reader.open == []
    return reader.text


def job_row(text: str) -> dict[str, Any]:
    now = datetime(2026, 11, 27, tzinfo=UTC)
    return {
        "job_id": 1, "array_id": 1, "array_index": 0, "name": text, "status": JobStatus.FAILED, "minor_status": text,
        "application_status": text, "owner": text, "group": text, "site": text, "priority": 5, "attempt": 1,
        "job_group": text, "job_type": text, "computing_element": text,
        "pilot_id": None, "exit_code": 1, "submitted_at": now, "started_at": now, "ended_at": now, "updated_at": now,
        "cpu_s": 1.0, "wall_s": 1.0, "max_rss_bytes": 1,
    }  # fmt: skip


def shown_things(text: str) -> list[Shown]:
    client = Client("https://spinor.example.org")
    job = Job(client, 1)
    job._known = JobModel(
        **job_row(text), array_size=1, vo=text, reschedules=0, description=JobSpec(executable=text, arguments=[text]),
        output_sandbox=None, output_files=[text],
    )  # fmt: skip
    job._log.last = text
    member = Membership(vo=text, group=text, properties=[])
    who = WhoAmI(user=text, full_name=text, vo=text, group=text, scopes=[], memberships=[member, member])
    invitation = Invitation(text, text, text, "https://spinor.example.org")
    invitation.end(text)
    return [
        job,
        JobSet(client, JobIds(job_ids=[1]), [JobRow(**job_row(text))]),
        FileSet(client, [{"lfn": text, "size_bytes": 1, text: text, "se": [text]}]),
        Me(who, "https://spinor.example.org", text, None),
        invitation,
        Grid(client),
    ]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_text_becomes_mark_up(text: str) -> None:
    for thing in shown_things(text):
        read(thing)
        assert all(c.isprintable() or c == "\n" for c in thing.text()), thing


def test_a_text_can_still_be_read() -> None:
    for thing in shown_things("<b>R&D</b>")[:4]:
        assert "<b>R&D</b>" in read(thing)
    assert esc("a\u202eb") == "a\\u202eb"


def test_a_link_is_made_to_the_server_alone() -> None:
    def shown(page: str, complete: str = "") -> str:
        return Invitation("ABCD-EFGH", page, complete, "https://spinor.example.org").html()

    good = shown("https://spinor.example.org/device", "https://spinor.example.org/device?user_code=ABCD-EFGH")
    assert 'href="https://spinor.example.org/device?user_code=ABCD-EFGH"' in good
    for bad in ("https://spinor.example.org.evil.example/device", "javascript:alert(1)"):
        assert "href" not in shown(bad)
        assert "href" not in shown("https://spinor.example.org/device", bad)
