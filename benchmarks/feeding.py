"""How fast a trial is fed and trained, against bare `model.fit` on the same arrays in memory.

    python benchmarks/feeding.py run WORKSPACE OUT.json [--backbone mobilenetv2_035] [--rounds 5]
    python benchmarks/feeding.py show OUT.json

Three things in turn, in one process, ROUNDS times over the training images of a prepared set: `fit` trains the same
network (nothing frozen, AdamW, batch 32) by `model.fit` on the originals in memory; `trial` trains it as a trial does,
from the memory-mapped originals and stored views; `pipeline` only makes the batches, with flips, masks and mixing on.
Images a second, medians over the rounds; the first round, which traces, is left out.
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
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the processes that train
RECIPE_BATCH = 32


def measure(workspace: Path, backbone: str, rounds: int) -> dict[str, list[float]]:
    """Images a second of each of the three, by round."""
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
    """The same network as a user would build it, compiled by Keras, and what it is fitted to: images and one-hot
    labels."""
    import keras
    import numpy as np

    from models.networks.classifier import make_classifier

    # Nothing frozen but the batch norm of pretrained networks, as in the part that a trial trains.
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
    """The median over rounds, each within itself: a machine may slow down on the way."""
    return statistics.median(one / other for one, other in zip(speeds, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "show"))
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--backbone", default="mobilenetv2_035")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    target = options.paths[-1]
    rows = json.loads(target.read_text()) if target.exists() else {}
    if options.what == "run":
        speeds = measure(options.paths[0], options.backbone, options.rounds)
        machine = f"{os.cpu_count()} cores, {os.uname().machine}"
        rows[options.backbone] = {
            "machine": machine, "date": time.strftime("%Y-%m-%d"), "images_per_second": speeds,
        }  # fmt: skip
        target.write_text(json.dumps(rows, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
