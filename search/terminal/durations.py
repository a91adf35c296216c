"""Durations as people write them: 45s, 90m, 8h, 2d, 1h30m; a bare number is in seconds."""

from __future__ import annotations

import re

import click

NUMBER = r"\d+(?:\.\d+)?"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[float]):
    """Click type of an option whose value is a duration, converted to seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = "".join(str(value).lower().split())
        if not re.fullmatch(rf"{NUMBER}|(?:{NUMBER}[smhd])+", text):
            self.fail(f"{value!r} must be a time above 0, such as 45s, 90m, 8h or 1h30m", param, ctx)
        seconds = sum(
            float(number) * UNITS_S[unit or "s"] for number, unit in re.findall(rf"({NUMBER})([smhd]?)", text)
        )
        if seconds <= 0:
            self.fail(f"{value!r} must be a time above 0, such as 45s, 90m, 8h or 1h30m", param, ctx)
        return seconds


DURATION = Duration()


def duration(seconds: float) -> str:
    """Return a duration in words: `42 s`, `3 min 20 s` or `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
