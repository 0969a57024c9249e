"""What a notebook shows: text, or HTML without scripts, in which everything that came from somebody is escaped.

Colours are those of the notebook's theme where it has some. There are no style sheets, which untrusted output loses.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from spinor.api.surroundings import cell_number
from spinor.terminal import cell, heading, printable, table

_MUTED = "color:var(--jp-ui-font-color2,#666)"
_LINE = "border-bottom:1px solid var(--jp-border-color2,#ddd)"
_COLOURS = {
    "done": "#1a7f37", "completed": "#1a7f37", "running": "#0b5cad", "completing": "#0b5cad", "matched": "#0b5cad",
    "waiting": "#8a6d00", "staging": "#8a6d00", "received": "#8a6d00", "checking": "#8a6d00", "scouting": "#8a6d00",
    "failed": "#b3261e", "killed": "#7a4a00", "stalled": "#b3261e", "deleted": "#666666",
}  # fmt: skip
_OTHER = "#666666"
_SHORT = 24
_ORDER = ("done", "completed", "completing", "running", "matched", "failed", "stalled", "killed")


class Shown:
    """Something with a text and an HTML form, brought up to date before a notebook shows it."""

    followed_in: int | None = None  # The cell that shows it already, as it is now.

    def freshen(self) -> None:
        """Ask the service again, if that can be; what cannot be asked stays as it was known last."""

    def text(self) -> str:
        raise NotImplementedError

    def html(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        """Nothing more in a cell that has followed it to its end; otherwise IPython goes on with the methods below."""
        if self.followed_in is None or self.followed_in != cell_number():
            raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        self.freshen()
        return {"text/plain": self.text(), "text/html": self.html()}


def esc(value: Any) -> str:
    """Text as HTML: no mark-up, no control characters, none that turn the direction of writing."""
    return html.escape(printable(str(value)), quote=True)


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, raw: frozenset[int] = frozenset()) -> str:
    """A table of cells that are escaped here; those of the columns in `raw` (by number) are HTML already."""
    style = f"text-align:left;padding:3px 12px 3px 0;font-weight:600;white-space:nowrap;{_LINE}"
    head = "".join(f'<th style="{style}">{esc(heading(name))}</th>' for name in columns)
    body = []
    for row in rows:
        cells = (
            f'<td style="text-align:left;padding:3px 12px 3px 0;{_width(value)}{_LINE}">'
            f"{value if n in raw else esc(cell(value, columns[n]))}</td>"
            for n, value in enumerate(row)
        )
        body.append(f'<tr style="background:none">{"".join(cells)}</tr>')
    return (
        '<table style="border-collapse:collapse;margin:4px 0;font-size:13px">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _width(value: Any) -> str:
    """Short values stay on one line, long ones may break anywhere."""
    return (
        "white-space:nowrap;" if len(str(value)) <= _SHORT or not isinstance(value, str) else "word-break:break-word;"
    )


def text_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[cell(value, name) for value, name in zip(row, columns, strict=True)] for row in rows]
    return "\n".join(table([printable(heading(name)) for name in columns], cells))


def card(title: str, parts: Sequence[str]) -> str:
    """A titled block. `title` and `parts` are HTML."""
    return (
        '<div style="border:1px solid var(--jp-border-color2,#ddd);border-left:3px solid #0b5cad;border-radius:4px;'
        "padding:8px 12px;margin:2px 0;max-width:1000px;overflow-x:auto;"
        "font-family:var(--jp-ui-font-family,sans-serif);"
        f'font-size:13px"><div style="margin-bottom:4px">{title}</div>{"".join(parts)}</div>'
    )


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and values, one pair a line; what is empty is left out."""
    rows = "".join(
        f'<tr style="background:none"><td style="text-align:left;padding:2px 14px 2px 0;white-space:nowrap;{_MUTED}">'
        f"{esc(heading(name))}</td>"
        f'<td style="text-align:left;padding:2px 0">{esc(cell(value, name))}</td></tr>'
        for name, value in pairs.items()
        if value not in (None, "", [], {})
    )
    return f'<table style="border-collapse:collapse;margin:0;font-size:13px">{rows}</table>'


def text_facts(title: str, pairs: Mapping[str, Any]) -> str:
    title = "\n".join(map(printable, title.splitlines()))
    known = {printable(heading(n)): cell(v, n) for n, v in pairs.items() if v not in (None, "", [], {})}
    width = max(map(len, known), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in known.items())])


def badge(status: str, *, good: bool = False) -> str:
    colour = _COLOURS["done"] if good else _COLOURS.get(status, _OTHER)
    return (
        f'<span style="background-color:{colour};color:#fff;border-radius:9px;padding:1px 8px;font-size:12px;'
        f'white-space:nowrap">{esc(status)}</span>'
    )


def bold(text: Any) -> str:
    return f"<b>{esc(text)}</b>"


def muted(text: Any) -> str:
    return f'<span style="{_MUTED}">{esc(text)}</span>'


def code(text: str, *, lines: int = 0) -> str:
    """Text as it is, in a fixed pitch; only its last lines when that is asked."""
    shown = text.splitlines()[-lines:] if lines else text.splitlines()
    body = "\n".join(esc(line) for line in shown)
    return (
        '<pre style="margin:6px 0 0;padding:6px 8px;background-color:var(--jp-layout-color2,#f4f4f4);'
        f'overflow-x:auto;font-size:12px;line-height:1.35">{body}</pre>'
    )


def bar(counts: Mapping[str, int]) -> str:
    """How many of a set are in which state, as one coloured line and in words."""
    total = sum(counts.values())
    if not total:
        return ""
    ordered = sorted(counts.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER))
    pieces = "".join(
        f'<div style="width:{100 * count / total:.2f}%;background-color:{_COLOURS.get(status, _OTHER)};height:10px"'
        f' title="{esc(status)}: {count}"></div>'
        for status, count in ordered
        if count
    )
    words = " ".join(f"{badge(status)}&nbsp;{count:,}&ensp;" for status, count in ordered if count)
    return (
        f'<div style="display:flex;max-width:600px;border-radius:5px;overflow:hidden;margin:4px 0 6px">{pieces}</div>'
        f"<div>{words}</div>"
    )


def text_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
