"""Score a model under published lists of corruptions, so that results can be compared with published ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import click
import numpy as np

from data_prep.storage.machine import processors
from search.terminal.output import print_table
from search.terminal.progress_bars import Stages

CHUNK_IMAGES = 1024
SEED = 0


def run_suite(
    suite: str, predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Return the balanced error (1 - balanced accuracy) on clean images and per corruption, also relative to AlexNet's.

    The formulas are from MedMNIST-C (Di Salvo et al. 2024, arXiv 2406.17536, section 3.2): the relative error of a
    corruption is its mean error over severities divided by AlexNet's. The final means are over corruptions.

    Args:
        suite: One of SUITES.
        predict: uint8 (k, h, w, 3) -> probabilities (k, classes).
        images: uint8 (n, h, w, 3).
        labels: int (n,).
    """
    from data_prep.corruption import medmnist_c

    rows = []
    with Stages() as stages:
        for name, reference in medmnist_c.REFERENCE_ERRORS.items():
            stages.start(f"{suite}: {name}", len(medmnist_c.SEVERITIES) * len(images))
            errors = []
            for severity in medmnist_c.SEVERITIES:
                guesses = []
                for part in _corrupted(images, name, severity):
                    guesses.append(predict(part).argmax(axis=1))
                    stages.advance(len(part))
                errors.append(balanced_error(labels, np.concatenate(guesses)))
            mean = float(np.mean(errors))
            row = {"corruption": name, "balanced_error": mean, "alexnet": reference, "relative_error": mean / reference}
            rows.append(row | {"by_severity": errors})
    clean = balanced_error(labels, predict(images).argmax(axis=1))
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("balanced_error", "alexnet", "relative_error")}
    return {"clean_balanced_error": clean, "clean_alexnet": medmnist_c.REFERENCE_CLEAN_ERROR, **means, "rows": rows}


def balanced_error(labels: np.ndarray, guesses: np.ndarray) -> float:
    """Return 1 minus the mean recall over the classes present."""
    return 1 - float(np.mean([(guesses[labels == label] == label).mean() for label in np.unique(labels)]))


def _corrupted(images: np.ndarray, name: str, severity: int) -> Iterator[np.ndarray]:
    """Yield all images, corrupted the same way each time, CHUNK_IMAGES at a time."""
    from data_prep.corruption.medmnist_c import corrupt

    key = zlib.crc32(name.encode())

    def one(row: int) -> np.ndarray:
        rng = np.random.default_rng([SEED, key, severity, row])
        return corrupt(np.asarray(images[row]), name, severity, rng)

    with ThreadPoolExecutor(processors()) as pool:
        for start in range(0, len(images), CHUNK_IMAGES):
            yield np.stack(list(pool.map(one, range(start, min(start + CHUNK_IMAGES, len(images))))))


def print_suite(suite: str, result: dict[str, Any]) -> None:
    """Print the suite's table, with AlexNet's errors as published for BloodMNIST."""
    clean = {
        "corruption": "none",
        "balanced_error": result["clean_balanced_error"],
        "alexnet": result["clean_alexnet"],
    }
    mean = {"corruption": "mean of the corruptions", **{k: v for k, v in result.items() if not isinstance(v, list)}}
    click.echo(f"{suite}: balanced error, mean of 5 severities, beside AlexNet's as published for BloodMNIST at 224 px")
    print_table([clean, *result["rows"], mean], ("corruption", "balanced_error", "alexnet", "relative_error"))
