"""The options of `export-best` that limit the cost of running the model. To add a limit, add a row to LIMITS."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import click

from search.terminal.help_sections import section_options

SECTION = "Which trial"
FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


class Amount(click.ParamType[float]):
    """Type of an option whose value is a number above 0, such as 500000, 500k, 5M or 0.6G."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = re.sub(r"(?<=\d),(?=\d{3}(\D|$))", "", "".join(str(value).lower().split()))
        found = re.fullmatch(r"((?:\d+\.?|\d*\.\d)\d*(?:e\d+)?)([kmgb]?)", text)
        amount = float(found[1]) * FACTORS[found[2]] if found else 0.0
        if not 0 < amount < inf:
            self.fail(f"{value!r} must be a number above 0, such as 500k, 5M or 0.6G", param, ctx)
        return amount


@dataclass(frozen=True)
class Limit:
    """One cost that can be limited."""

    figure: str
    """Name of the cost in studies.trial_tables.COSTS."""
    help: str
    unit: str


_MOST = "Only trials with at most this many"
LIMITS = {
    "max_params": Limit("parameters", f"{_MOST} parameters, such as 5M.", "parameters"),
    "max_flops": Limit("flops_per_image", f"{_MOST} FLOPs per image, such as 0.6G.", "FLOPs per image"),
    "max_ms": Limit("ms_per_image", f"{_MOST} milliseconds per image (`compare --details`).", "ms per image"),
    "max_mb": Limit("weights_mb", f"{_MOST} megabytes of weights.", "MB"),
}
"""Parameter of `export-best` -> the cost that it limits."""


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each limit to a command, under the heading SECTION of its help."""
    option = section_options(SECTION)
    for name, limit in reversed(LIMITS.items()):
        flag = f"--{name.replace('_', '-')}"
        command = option(flag, type=Amount(), help=limit.help)(command)
    return command
