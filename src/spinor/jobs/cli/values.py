"""Kinds of option values: durations and sizes as people write them."""

from typing import Any

import click

from spinor import quantities


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(quantities.duration_s(str(value)))
        except ValueError as error:
            self.fail(f"{value!r} is not {error}.", param, ctx)


SECONDS = _Seconds()
