"""The attributes of one JDL, each read as the kind of value that it should have."""

from typing import Any

from spinor.jobs.description.faults import nearest, shown
from spinor.jobs.description.jdl.parameters import Parameters, is_parametric
from spinor.jobs.description.jdl.syntax import Attribute, BadJDL, refusal, written
from spinor.jobs.description.jdl.words import REFUSED, WORDS
from spinor.jobs.description.placeholders import escaped

_TRUE = frozenset({"1", "yes", "true", "y"})
_FALSE = frozenset({"0", "no", "false", "n", ""})
_SPELLED = {name.lower(): name for name in (*WORDS, *REFUSED)}


class Reading:
    """Names are found whatever their case, as ClassAds have it. Texts come with Spinor's placeholders in them."""

    def __init__(self, attributes: list[Attribute]) -> None:
        self.warnings: list[str] = []
        self.parameters = Parameters([written(each) for each in attributes if is_parametric(each.name)])
        self._found: dict[str, Attribute] = {}
        for attribute in attributes:
            if not is_parametric(attribute.name):
                name = _known(attribute)
                self._found[name] = written(attribute)

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def refuse(self, name: str, problem: str) -> BadJDL:
        return refusal(self._found[name].place, f"{name}: {problem}", field=name)

    def is_list(self, name: str) -> bool:
        return isinstance(self._found[name].value, list)

    def warn(self, name: str, sentence: str) -> None:
        self.warnings.append(f"{name}: {sentence}.")

    def first_of(self, *names: str) -> str | None:
        """Which of these names for one thing is given. Raises BadJDL for two."""
        given = [name for name in names if name in self._found]
        if len(given) > 1:
            raise self.refuse(given[1], f"says the same as {given[0]}; leave one of them out")
        return given[0] if given else None

    def raw(self, name: str, default: str = "") -> str:
        """A text as written, where placeholders do not count or are looked for later."""
        if name not in self._found:
            return default
        value = self._found[name].value
        if isinstance(value, list):
            raise self.refuse(name, "is a list; one text is wanted")
        return _text(value)

    def text(self, name: str, default: str = "") -> str:
        return self.convert(name, self.raw(name, default).strip()) if name in self._found else escaped(default)

    def fixed(self, name: str) -> str:
        """A text that all jobs of the array share."""
        text = self.raw(name).strip()
        if self.parameters.stands_in(text):
            raise self.refuse(name, f"{shown(text)} would differ from job to job, and is one for all; submit several")
        return text

    def convert(self, name: str, text: str) -> str:
        return self.parameters.converted(text, self._found[name].place, name)

    def words(self, name: str) -> list[str]:
        """A list of texts as written; one text may hold several, separated by commas."""
        if name not in self._found:
            return []
        value = self._found[name].value
        items = value if isinstance(value, list) else _text(value).split(",")
        if any(isinstance(item, list) for item in items):
            raise self.refuse(name, "has a list in its list; one list of texts is wanted")
        return [word for item in items if (word := _text(item).strip())]

    def fixed_words(self, name: str) -> list[str]:
        words = self.words(name)
        for word in words:
            if self.parameters.stands_in(word):
                raise self.refuse(name, f"{shown(word)} would differ from job to job, and is one for all")
        return words

    def number(self, name: str, least: int, most: int) -> int | None:
        if name not in self._found:
            return None
        text = self.fixed(name)
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most or number != int(number):
            raise self.refuse(name, f"{shown(text)} is not a whole number from {least:,} to {most:,}")
        return int(number)

    def flag(self, name: str) -> bool:
        text = self.fixed(name).lower()
        if text not in _TRUE | _FALSE:
            raise self.refuse(name, f"{shown(text)} is neither yes nor no")
        return text in _TRUE


def _known(attribute: Attribute) -> str:
    name = _SPELLED.get(attribute.name.lower())
    if name is None:
        near = nearest(attribute.name, WORDS)
        hint = f"did you mean {near}?" if near else "see docs/reference/jdl.md for those that are known."
        raise refusal(attribute.place, f"there is no attribute {attribute.name}; {hint}", field=attribute.name)
    if name in REFUSED:
        raise refusal(attribute.place, f"{name}: {REFUSED[name]}", field=name)
    return name


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
