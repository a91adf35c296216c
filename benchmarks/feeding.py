"""Measure how fast a trial trains and how fast its input pipeline is, against plain `model.fit`.

    python benchmarks/feeding.py run WORKSPACE OUT.json [--backbone mobilenetv2_035] [--rounds 5]
    python benchmarks/feeding.py show OUT.json

One process measures three things in turn, in each round, over the training images of a prepared set:

    fit         `model.fit` on the same network (nothing frozen, AdamW, batch size 32), original images in memory
    trial       the same training as a trial does it, from memory-mapped originals and stored augmented views
    pipeline    the batches alone, without training, with flips, masks and mixing

Figures are images/s, medians over the rounds. The first round, in which TensorFlow traces its graphs, does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `hpsearch run` sets it
RECIPE_BATCH = 32


def measure(workspace: Path, backbone: str, rounds: int) -> dict[str, list[float]]:
    """Return the images/s of `fit`, `trial` and `pipeline` in each round."""
    import numpy as np

    from data_prep.storage.reader import PreparedSet
    from models.backbones.registry import backbone_named, default_weights
    from models.feeding.batches import Feed
    from models.feeding.epoch_size import EpochSize
    from models.hyperparameters import Hyperparameters
    from models.networks.classifier import ClassifierSettings
    from models.networks.kept_networks import Networks
    from models.training.plan import Plan
    from models.training.recipe import Phase, Recipe
    from models.training.trained_phase import TrainedPhase
    from search.engine.trial_data import training_data

    prepared = PreparedSet.open(workspace / "prepared")
    row = backbone_named(backbone)
    settings = ClassifierSettings(row, default_weights(row), prepared.image_shape, len(prepared.class_names))
    views = Hyperparameters(frozen_fraction=0.0, augmentation="+".join(prepared.levels) or "none", dropout=0.2)
    busy = Hyperparameters(**{**vars(views), "flips": True, "masks": 0.3, "mixing": "cutmix+mixup"})
    network = Networks().taken(settings, 0.2, 0)
    data = training_data(prepared, views)
    size = EpochSize.of(len(data.views), 1, RECIPE_BATCH)
    feed = Feed(data.views, np.asarray(data.class_weights, "float32"), size, 0)
    phase = Phase("fine-tuning", 0.0, 1, 1e-4, "adamw")
    under_way = TrainedPhase(Plan(settings, views, Recipe(), "macro_f1", 0), phase, network, network.part(0.0), views)
    fitted, arrays = fit_model(network, data)
    systems = {
        "fit": lambda number: fitted.fit(*arrays, batch_size=RECIPE_BATCH, verbose=0),
        "trial": lambda number: float(sum(under_way.step(batch) for batch in feed.epoch(number, 0.0, views))),
        "pipeline": lambda number: sum(len(batch.images) for batch in feed.epoch(number, 0.0, busy)),
    }
    found: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds + 1):
        for name, system in systems.items():
            start = time.perf_counter()
            system(number)
            images = len(arrays[0]) if name == "fit" else size.trained_views
            found[name].append(images / (time.perf_counter() - start))
    return {name: speeds[1:] for name, speeds in found.items()}


def fit_model(network: Any, data: Any) -> tuple[Any, tuple[Any, Any]]:
    """Return the network as a user would build and compile it, with its images and one-hot labels."""
    import keras
    import numpy as np

    from models.networks.classifier import make_classifier

    # Only the batch norm of pretrained networks is frozen, as in a trial.
    model = make_classifier(network.classifier.settings, dropout=0.2).joined
    model.trainable = True
    for layer in model._flatten_layers(include_self=False):
        if network.classifier.settings.pretrained and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(keras.optimizers.AdamW(1e-4, weight_decay=0.004), "categorical_crossentropy", jit_compile=False)
    one_hot = np.eye(len(data.class_weights), dtype="float32")
    return model, (np.asarray(data.views.originals), one_hot[data.views.labels])


def show(rows: dict[str, Any]) -> None:
    for backbone, row in rows.items():
        by_name = row["images_per_second"]
        speeds = {name: statistics.median(values) for name, values in by_name.items()}
        speeds_now = ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items())
        print(f"{backbone} ({row['machine']}, {row['date']}): {speeds_now} images/s")
        of_fit, of_pipeline = _ratio(by_name["trial"], by_name["fit"]), _ratio(by_name["pipeline"], by_name["trial"])
        print(f"  trial / fit {of_fit:.2f}, pipeline / trial {of_pipeline:.0f}")


def _ratio(speeds: list[float], others: list[float]) -> float:
    """Return the median of each round's ratio, so that a machine that slows down during the run does not matter."""
    return statistics.median(one / other for one, other in zip(speeds, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure one backbone and add it to OUT")
    running.add_argument("workspace", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--backbone", default="mobilenetv2_035", help="default: %(default)s")
    running.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    commands.add_parser("show", help="print the figures").add_argument("out", type=Path)
    options = parser.parse_args()
    rows = json.loads(options.out.read_text()) if options.command == "show" or options.out.exists() else {}
    if options.command == "run":
        speeds = measure(options.workspace, options.backbone, options.rounds)
        machine = f"{os.cpu_count()} cores, {os.uname().machine}"
        rows[options.backbone] = {
            "machine": machine, "date": time.strftime("%Y-%m-%d"), "images_per_second": speeds,
        }  # fmt: skip
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
