"""Options under headings in a command's help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

OTHER = "Other"
"""Section of the options that name none, shown last."""


class SectionedOption(click.Option):
    """An option that stands under a heading of its command's help."""

    def __init__(self, *args: Any, section: str = OTHER, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options by section, in the order in which they are declared."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(option, "section", OTHER), []).append(record)
        for title in sorted(sections, key=lambda title: title == OTHER):  # a stable sort: only OTHER moves, to the end
            with formatter.section(title):
                formatter.write_dl(sections[title])


def section_options(title: str) -> Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]:
    """Return `click.option` for the options of one section."""

    def option(*flags: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return click.option(*flags, cls=SectionedOption, section=title, **settings)

    return option
