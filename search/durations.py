"""Times as people write them: 45s, 90m, 8h, 2d, 1h30m; a bare number is seconds."""

from __future__ import annotations

import re

import click

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """An option's value, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)([smhd]?)", text)
        seconds = sum(float(number) * UNITS_S[unit or "s"] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != text.replace(" ", "") or seconds <= 0:
            self.fail(f"{value!r} must be a time above 0, such as 45s, 90m, 8h or 1h30m", param, ctx)
        return seconds


DURATION = Duration()
