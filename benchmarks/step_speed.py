"""Measure what folding batch norm into convolutions and oneDNN's kernels gain in training and prediction.

    TF_ENABLE_ONEDNN_OPTS=1 python benchmarks/step_speed.py run OUT.json BACKBONE ...
    TF_ENABLE_ONEDNN_OPTS=0 python benchmarks/step_speed.py run OUT.json BACKBONE ...
    python benchmarks/step_speed.py show OUT.json

`run` times the same network with plain and with folded batch norm, in turn, and adds a row to OUT.json. The kernels are
those of the environment: 1 is oneDNN's, 0 TensorFlow's own (Eigen). TensorFlow's default depends on the processor.

    step      gradient of the loss with respect to all weights but those of batch norm, for a batch of 32 random images
    answer    prediction of one image, measured on a batch of 128

Images have 96 pixels, or the smallest size that the backbone takes. Weights are random, which does not change the
times. Figures are medians of the rounds, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from models.backbones.registry import UNTRAINED, backbone_named
from models.networks.classifier import ClassifierSettings, make_classifier, set_trainable
from models.networks.compiled_steps import gradient_function, training_device
from models.networks.norm_folding import FoldedConvolution, folded
from models.networks.predicting import PREDICT_BATCH, predict

ROUNDS, REPEATS, BATCH, SIZE, CLASSES = 9, 4, 32, 96, 8
KERNELS = "TF_ENABLE_ONEDNN_OPTS"


def measured(name: str, rounds: int) -> dict[str, Any]:
    """Time one backbone; return its row."""
    backbone = backbone_named(name)
    size = max(SIZE, backbone.min_size)
    classifier = make_classifier(ClassifierSettings(backbone, UNTRAINED, (size, size, 3), CLASSES), dropout=0.0)
    set_trainable(classifier.network, True, norm=False)
    models = {"plain": classifier.joined, "folded": folded(classifier.joined)}
    images = np.random.default_rng(0).integers(0, 256, (PREDICT_BATCH, size, size, 3)).astype("uint8")
    targets, weights = np.eye(CLASSES, dtype="float32")[np.arange(BATCH) % CLASSES], np.ones(BATCH, "float32")
    work: dict[str, Callable[[], Any]] = {}
    for kind, model in models.items():
        step = gradient_function(model, model.trainable_variables)
        work[f"step_ms_{kind}"] = lambda step=step: keras.ops.convert_to_numpy(
            step(images[:BATCH], targets, weights)[1][:1]
        )
        work[f"answer_ms_{kind}"] = lambda model=model: predict(model, images)
    times: dict[str, list[float]] = {kind: [] for kind in work}
    for done in work.values():
        done()  # the first call traces the graph
    for _ in range(rounds):
        for kind, done in work.items():
            start = time.perf_counter()
            for _ in range(REPEATS):
                done()
            each = PREDICT_BATCH if kind.startswith("answer") else 1
            times[kind].append(1000 * (time.perf_counter() - start) / REPEATS / each)
    row = {kind: round(statistics.median(found), 3) for kind, found in times.items()}
    layers = models["folded"]._flatten_layers()
    row["convolutions"] = sum(isinstance(layer, FoldedConvolution) for layer in layers)
    for kind in ("step", "answer"):
        row[f"{kind}_ratio"] = round(row[f"{kind}_ms_plain"] / row[f"{kind}_ms_folded"], 2)
    kernels = {"0": "Eigen", "1": "oneDNN"}[os.environ[KERNELS]]
    return {
        "backbone": name,
        "kernels": kernels,
        "size": size,
        "date": datetime.now(UTC).date().isoformat(),
        "device": machine(),
    } | row


def machine() -> str:
    found = training_device()
    return f"{os.cpu_count()} cores, {platform.machine()}" if found.is_cpu else found.name


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line for each row: milliseconds plain -> folded, and how many times as fast."""
    for row in rows:
        print(
            f"{row['backbone']}, {row['kernels']}, {row['size']} px, {row['convolutions']} folded, {row['device']}: "
            f"step {row['step_ms_plain']:.0f} -> {row['step_ms_folded']:.0f} ms (x{row['step_ratio']:.2f}), "
            f"answer {row['answer_ms_plain']:.2f} -> {row['answer_ms_folded']:.2f} ms (x{row['answer_ratio']:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure backbones and add them to OUT")
    running.add_argument("out", type=Path)
    running.add_argument("backbones", nargs="+", metavar="BACKBONE")
    running.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    commands.add_parser("show", help="print the figures").add_argument("out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.command == "show" or options.out.exists():
        rows = json.loads(options.out.read_text())
    if options.command == "run":
        if os.environ.get(KERNELS) not in ("0", "1"):
            parser.error(f"the environment variable {KERNELS} must be 0 or 1, but is {os.environ.get(KERNELS)!r}")
        for name in options.backbones:
            new = measured(name, options.rounds)
            key = (name, new["kernels"])
            rows = [row for row in rows if (row["backbone"], row["kernels"]) != key] + [new]
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
