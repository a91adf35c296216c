"""Label images with an exported model, and write a row per image."""

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

from search.evaluating.exported_model import ExportedModel
from search.evaluating.inputs import Chunk
from search.terminal.output import percent
from studies.files import replacing

COLUMNS = ("image", "label", "probability")


@dataclass
class Labelling:
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


def counted(labels: Counter[str]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in labels.most_common())


def tell_abstention(exported: ExportedModel, labelling: Labelling, target: float, threshold: float) -> None:
    share = len(labelling.answered) / labelling.labelled
    abstained = labelling.labelled - len(labelling.answered)
    click.echo(
        f"answered {percent(share)} of the images, those with a probability above {threshold:.4f}; "
        f"abstained on {abstained:,} (column `abstained`)"
    )
    if labelling.answered:
        expected = 1 - float(np.mean(labelling.answered))
        click.echo(f"wrong answers expected among them, by their probabilities: {percent(expected)}")
    else:
        click.echo("no threshold kept to this share of wrong answers on the validation images: ask for a larger one")
    for title, row in exported.measured_abstaining(target):
        click.echo(f"at export, {title}: answered {percent(row['coverage'])}, wrong {percent(row['error'])}")


def write_rows(target: Path, rows: Iterable[dict[str, Any]], columns: tuple[str, ...]) -> None:
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
