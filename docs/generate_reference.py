"""Writes docs/reference/ from the code: every command, source, backbone, corruption, format, hyperparameter, setting.

python docs/generate_reference.py

A test compares the pages with the script's output. To document another table, add a function to PAGES.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from data_prep.corruption.operations import CORRUPTIONS
from data_prep.settings import STRENGTHS
from data_prep.sources.registry import SOURCES
from models.backbones.registry import BACKBONES, default_weights
from models.formats.registry import FORMATS
from models.hyperparameters import RULES, Hyperparameters
from models.scoring.objectives import EXTERNAL_OBJECTIVE, OBJECTIVES
from models.training.recipe import Recipe
from search.cli import COMMANDS, main
from search.planning.run_options import SETTING_DEFAULTS
from studies.pruners import DEFAULT_PRUNER, PRUNERS
from studies.samplers import DEFAULT_SAMPLER, SAMPLERS
from studies.settings import StudySettings

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate_reference.py. Do not edit. -->\n"


def table(columns: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table. `columns`: its headings, with commas between them."""
    names = columns.split(", ")
    lines = [names, ["---"] * len(names), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def attribute_docs(record: type) -> dict[str, str]:
    """Return the string literal under each field of a dataclass, by the field's name."""
    (body,) = ast.parse(inspect.getsource(record)).body
    assert isinstance(body, ast.ClassDef)
    found, field = {}, ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and field:
            found[field] = " ".join(str(node.value.value).split())
    return found


def commands() -> str:
    parts = [
        "# Commands\n",
        "Every command takes `-w/--workspace FOLDER` and `--debug`. This is what `hpsearch COMMAND --help` shows.\n",
    ]
    with click.Context(main, info_name="hpsearch") as parent:
        for name in COMMANDS:
            command = main.get_command(parent, name)
            assert command is not None
            parts.append(_command(command, click.Context(command, info_name=name, parent=parent, show_default=True)))
    return "\n".join(parts)


def _command(command: click.Command, ctx: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(ctx))
    lines = [f"## {ctx.info_name}\n", f"```text\nhpsearch {ctx.info_name} {usage}\n```\n"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        is_example = paragraph.startswith("\b")
        text = paragraph.removeprefix("\b\n")
        lines.append(f"```text\n{text}\n```\n" if is_example else f"{text}\n")
    rows = []
    for option in command.params:
        record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
        if record and option.name not in ("workspace", "debug"):
            rows.append((f"`{record[0]}`", record[1]))
    return "\n".join(lines) + ("\n" + table("option, what it does", rows) if rows else "")


def sources() -> str:
    rows = [(row.kind, row.describe, "yes" if row.resized else "no") for row in SOURCES]
    return "# Sources\n\nWhat `hpsearch prepare SOURCE` reads.\n\n" + table(
        "source, what it looks like, resized to `--image-size`", rows
    )


def backbones() -> str:
    rows = [
        (
            f"`{row.name}`",
            f"{row.parameters:,}",
            row.native_size,
            row.min_size,
            row.preprocessing,
            default_weights(row),
            " ".join(f"{cut:g}" for cut in row.cuts),
        )
        for row in BACKBONES
    ]
    return (
        "# Backbones\n\nWhat `hpsearch run --backbone` takes by name. Parameters are without the head. The native "
        "size is the side in pixels of the images it was pretrained on. Cut points are the shares of its layers that a "
        "trial can freeze.\n\n"
        + table("backbone, parameters, native size, smallest, preprocessing, default weights, cut points", rows)
    )


def corruptions() -> str:
    used = {"validation": "known: scores trials, and the test images too", "test": "unseen: scores test images alone"}
    rows = [
        (row.name, row.family, row.kind, used[row.used_by], ", ".join(f"{one:g}" for one in row.strengths))
        for row in CORRUPTIONS
    ]
    levels = table("level, strength", [(f"`{name}`", f"{strength:g}") for name, strength in STRENGTHS.items()])
    return (
        "# Corruptions and augmentation levels\n\nCorruptions are applied to held-out images, alone and two at a time. "
        "Strengths are in each operation's own unit.\n\n"
        + table("corruption, family, kind, used for, strengths", rows)
        + "\n## Augmentation levels\n\nLevels of `hpsearch prepare --levels`, for training images alone.\n\n"
        + levels
    )


def formats() -> str:
    rows = [
        (
            f"`{row.name}`",
            row.title,
            f"`{row.file}`",
            f"`pip install 'hpsearch[{row.extra}]'`" if row.extra else "nothing more",
            f"{row.tolerance:g}",
        )
        for row in FORMATS.values()
    ]
    return "# Formats\n\nWhat `hpsearch export-best --format` writes besides the Keras model.\n\n" + table(
        "format, what it is, file in the export, needs, largest difference of a probability", rows
    )


def hyperparameters() -> str:
    docs, defaults = attribute_docs(Hyperparameters), Hyperparameters()
    rows = [(f"`{name}`", docs[name], f"`{getattr(defaults, name)}`", RULES[name][0]) for name in docs]
    return (
        "# Hyperparameters\n\nWhat a search space may vary. One that the space leaves out has its default.\n\n"
        + table("hyperparameter, what it is, default, rule", rows)
    )


def settings() -> str:
    docs = attribute_docs(StudySettings) | attribute_docs(Recipe)
    rows = [(f"`{name}`", docs.get(name, ""), f"`{value}`") for name, value in SETTING_DEFAULTS.items()]
    objectives = [*OBJECTIVES.items(), (EXTERNAL_OBJECTIVE, "macro-F1 on the external set of that name")]
    return (
        "# Settings of a study\n\nA study fixes these when it is created. `hpsearch run` has an option for most.\n\n"
        + table("setting, what it is, default", rows)
        + "\n## Objectives\n\n"
        + table("objective, what is maximized", [(f"`{name}`", text) for name, text in objectives])
        + f"\n## Samplers and pruners\n\nSamplers: {_names(SAMPLERS, DEFAULT_SAMPLER)}. "
        f"Pruners: {_names(PRUNERS, DEFAULT_PRUNER)}.\n"
    )


def _names(names: Iterable[str], default: str) -> str:
    return ", ".join(f"`{name}`" + (" (default)" if name == default else "") for name in names)


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "sources.md": sources,
    "backbones.md": backbones,
    "corruptions.md": corruptions,
    "formats.md": formats,
    "hyperparameters.md": hyperparameters,
    "settings.md": settings,
}
"""File in docs/reference -> function that gives its text."""


def page(name: str) -> str:
    return NOTE + PAGES[name]()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file in PAGES:
        (FOLDER / file).write_text(page(file), encoding="utf-8")
