"""Write the further formats of an export from its Keras model, and check each on every validation image."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from data_prep.storage.reader import PreparedSet
from models.formats.conversion import largest_difference, predict_in_fresh_process, write_format
from models.formats.portable import needed_keras
from models.formats.registry import FORMATS, KERAS, Format
from search.exporting.scored_parts import PARTS
from search.exporting.variants import Candidate
from search.terminal.durations import duration
from search.terminal.output import print_table


def write_formats(names: Sequence[str], chosen: Candidate, prepared: PreparedSet, folder: Path) -> dict[str, Any]:
    """Write the named formats into `folder`, which already holds the Keras model, and print how long each takes.

    Returns:
        A row per format, the Keras model first: `file`, `bytes`, `tolerance`, and `largest_difference` of a
        probability. The Keras model is compared with training, the others with the Keras model. Its row also has
        `needs`, the oldest version of Keras that opens it.

    Raises:
        ModelError: The model cannot be written in a format, or gives other probabilities in it.
    """
    model = folder / FORMATS[KERAS].file
    rows = {KERAS: _row(FORMATS[KERAS], folder, chosen.difference) | {"needs": needed_keras(model)}}
    wanted = [row for row in FORMATS.values() if row.write and row.name in names]
    if not wanted:
        return rows
    images = next(part for part in PARTS if part.split == "validation" and not part.key).file(prepared)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary)
        expected, on_gpu = chosen.validation[""].probabilities, _has_gpu()
        refitted = any(member.refit for member in chosen.variant.members)  # stored probabilities predate a refit
        if on_gpu or refitted:
            (expected,) = predict_in_fresh_process(model, [images], work, on_cpu=on_gpu)
        for row in wanted:
            click.echo(f"writing as {row.title} and checking it on {len(expected):,} validation images")
            started = time.monotonic()
            write_format(row, model, folder / row.file)
            written_s = time.monotonic() - started
            with tempfile.TemporaryDirectory(dir=work) as empty:
                difference = largest_difference(row, folder / row.file, images, expected, Path(empty))
            rows[row.name] = _row(row, folder, difference)
            checked_s = time.monotonic() - started - written_s
            click.echo(f"written in {duration(written_s)}, checked in {duration(checked_s)}")
    return rows


def print_formats(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the rows of `write_formats`, without the Keras model; nothing if it is the only one."""
    if len(rows) > 1:
        shown = [
            {
                "format": name,
                "file": row["file"],
                "MB": round(row["bytes"] / 1e6, 2),
                "largest difference": f"{row['largest_difference']:.1e}",
            }
            for name, row in rows.items()
            if name != KERAS
        ]
        print_table(shown, tuple(shown[0]))
        click.echo(
            "Largest difference from the Keras model's probabilities on every validation image, each format in its own "
            "runtime."
        )


def _row(row: Format, folder: Path, difference: float) -> dict[str, Any]:
    path = folder / row.file
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return {"file": row.file, "bytes": size, "largest_difference": difference, "tolerance": row.tolerance}


def _has_gpu() -> bool:
    from models.networks.compiled_steps import training_device  # it imports Keras

    return not training_device().is_cpu
