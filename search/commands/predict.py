"""`hpsearch predict`."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np

from models.formats.registry import FORMATS
from models.scoring.trust import TARGET_ERRORS
from search.errors import SearchError
from search.evaluating.exported_model import ExportedModel, open_export
from search.evaluating.inputs import VALUE_RANGE, Chunk, chunks
from search.terminal.output import percent
from search.terminal.progress_bars import Stages
from studies.files import replacing

DEFAULT_TARGET = 0.01
DEFAULT_OUT = "labels.csv"
COLUMNS = ("image", "label", "probability")
TARGETS = {f"{100 * target:g}": target for target in TARGET_ERRORS}


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"File to write; JSON lines if it ends in .jsonl.  [default: {DEFAULT_OUT}, an existing one is not replaced]",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(FORMATS)),
    help="Use the export in this format, in its own runtime.  [default: keras]",
)
@click.option("--probabilities", is_flag=True, help="Add one column per class with its probability.")
@click.option("--abstain", is_flag=True, help="Mark images for which the model is not confident enough to answer.")
@click.option(
    "--target-error",
    type=click.Choice(list(TARGETS)),
    default=f"{100 * DEFAULT_TARGET:g}",
    show_default=True,
    help="Per cent of wrong answers that --abstain aims at.",
)
@VALUE_RANGE
def predict(
    model: Path,
    data: Path,
    out: Path | None,
    format_name: str | None,
    probabilities: bool,
    abstain: bool,
    target_error: str,
    value_range: str | None,
) -> None:
    """Label the images in DATA with an exported MODEL (its folder).

    \b
    hpsearch predict my-model new-cells --out labels.csv
    hpsearch predict my-model new-cells --abstain

    DATA is an .npz file with `images`, a folder with pictures, a table of their paths, or one picture. Images of
    another size are cropped to the middle and resized, as in training.

    The file has a row per image: its label, and the label's probability, calibrated on the validation images. A picture
    that cannot be read has the reason instead.
    """
    out = _checked(out, data)
    exported = open_export(model, format_name)
    threshold = exported.known_trust().abstention(TARGETS[target_error]).threshold if abstain else None
    labelling = _Labelling(exported, threshold, probabilities)
    columns = (*COLUMNS, *(["abstained"] if abstain else []), *labelling.class_columns, "reason")
    with Stages() as stages:
        found = (
            row for chunk in chunks(data, exported.image_shape, stages, value_range) for row in labelling.rows(chunk)
        )
        _write(out, found, columns)
    if not labelling.labelled:
        raise SearchError(f"no image in {data} could be read: {out} tells the reasons")
    click.echo(f"labelled {labelling.labelled} images: {_counted(labelling.labels)}")
    if labelling.unreadable:
        click.echo(f"{labelling.unreadable} could not be read: the column `reason` tells why", err=True)
    if exported.trust is None:
        click.echo(
            "warning: the export has no calibration, its probabilities are raw: export the trial again", err=True
        )
    if threshold is not None:
        _tell_abstention(exported, labelling, TARGETS[target_error], threshold)
    click.echo(f"written: {out}")


def _checked(asked: Path | None, data: Path) -> Path:
    """Return the file to write. An existing file is replaced only if it was named, and the images never are."""
    out = asked or Path(DEFAULT_OUT)
    if asked is None and out.exists():
        raise click.BadParameter(f"{out} is there already: name the file to write", param_hint="--out")
    if not out.parent.is_dir():
        raise click.BadParameter(f"there is no folder {out.parent}", param_hint="--out")
    if out.exists() and out.samefile(data):
        raise click.BadParameter(f"{out} is what is to be labelled: name another file", param_hint="--out")
    return out


@dataclass
class _Labelling:
    """Labels chunk after chunk, counting."""

    exported: ExportedModel
    threshold: float | None
    of_all_classes: bool
    labels: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    answered: list[float] = field(default_factory=list)
    """Calibrated confidence of each image above the threshold."""

    @property
    def labelled(self) -> int:
        return self.labels.total()

    @property
    def class_columns(self) -> tuple[str, ...]:
        """Return a column name per class, with a prefix, since a class may be called `label`; none unless asked for."""
        return tuple(f"probability_{name}" for name in self.exported.class_names) if self.of_all_classes else ()

    def rows(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Return a row per image of the chunk, in order."""
        probabilities = iter(self._probabilities(chunk.images))
        for name in chunk.names:
            if name in chunk.reasons:
                self.unreadable += 1
                yield {"image": name, "reason": chunk.reasons[name]}
                continue
            ours = next(probabilities)
            label, confidence = self.exported.class_names[ours.argmax()], float(ours.max())
            self.labels[label] += 1
            row = {"image": name, "label": label, "probability": round(confidence, 6)}
            if self.threshold is not None:
                row["abstained"] = not confidence > self.threshold
                self.answered += [] if row["abstained"] else [confidence]
            row |= {column: round(float(value), 6) for column, value in zip(self.class_columns, ours, strict=False)}
            yield row

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        if len(images) == 0:
            return np.empty((0, len(self.exported.class_names)))
        raw = self.exported.predict(images)
        return self.exported.trust.calibrated(raw) if self.exported.trust else raw


def _counted(labels: Counter[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in labels.most_common())


def _tell_abstention(exported: ExportedModel, labelling: _Labelling, target: float, threshold: float) -> None:
    share = len(labelling.answered) / labelling.labelled
    click.echo(f"answered: {percent(share)} of the images, those with a probability above {threshold:.4f}")
    if labelling.answered:
        expected = 1 - float(np.mean(labelling.answered))
        click.echo(f"wrong answers expected among them, by their probabilities: {percent(expected)}")
    else:
        click.echo("no threshold kept to this share of wrong answers on the validation images: ask for a larger one")
    for title, row in exported.measured_abstaining(target):
        click.echo(f"at export, {title}: answered {percent(row['coverage'])}, wrong {percent(row['error'])}")


def _write(target: Path, rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Write the whole file or nothing: `target` is replaced when the last row is written."""
    with (
        replacing(target, shared=True) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        if target.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
