"""Train the recipe that was published for the blood-cell challenge, for a given time, to compare hpsearch with it.

    python benchmarks/published_recipe.py --images WORKSPACE --learning-rate 1e-4 --seconds 600 --out FOLDER

It trains on the pooled training and validation images of WORKSPACE, as published, faults included:

- Every image is augmented first: one view of each strength (low, medium, hard). Then all versions are split 70/30 at
  random, stratified by class, so that nearly every validation image has another version of itself in training.
- MobileNetV2 0.35 with ImageNet weights, the first half of the layers frozen, batch norm at plain Keras's defaults.
- Random flip, rotation, zoom, contrast and noise inside the model.
- Weighted categorical cross-entropy on one-hot labels, class weights N / (n_k C).
- AdamW, batches of 16. ReduceLROnPlateau and EarlyStopping on validation accuracy (patience 2 and 5, which were not
  published); the best weights are restored.

--seconds counts from the call of `fit`: tracing, training, and the evaluations between epochs. Augmentation and the
last evaluation do not count. FOLDER gets model.keras, which takes uint8 images (n, h, w, 3), and recipe.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

from data_prep.augmentation.levels import augment
from data_prep.storage.reader import PreparedSet
from search.terminal.progress_bars import Stages

LEVELS = ("low", "medium", "hard")  # the published strengths; hpsearch has more
BATCH, VALIDATION_BATCH = 16, 128
VALIDATION_SHARE, FROZEN_SHARE = 0.3, 0.5
MAX_EPOCHS = 1000  # never reached: the time or early stopping ends training


def all_versions(images: np.ndarray, seed: int) -> np.ndarray:
    """Return each image and one augmented view of each level, uint8 (n, 4, h, w, 3), the image itself first."""
    versions = np.empty((len(images), 1 + len(LEVELS), *images.shape[1:]), np.uint8)
    versions[:, 0] = images
    with Stages() as stages:
        stages.start(f"augmenting, levels {', '.join(LEVELS)}", len(LEVELS) * len(images))
        views = {level: versions[:, place : place + 1] for place, level in enumerate(LEVELS, 1)}
        augment(images, views, (seed, 0), stages)
    return versions


def batches(images: np.ndarray, targets: np.ndarray, rows: np.ndarray, training: bool) -> tf.data.Dataset:
    """Return batches of images[rows] and targets[rows], shuffled in each epoch of training. Images are not copied."""
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    if training:  # batches of one size only: Keras traces each size
        dataset = dataset.shuffle(len(rows)).batch(BATCH, drop_remainder=True)
    else:
        dataset = dataset.batch(VALIDATION_BATCH)

    def gather(at: Any) -> Any:
        batch, wanted = tf.numpy_function(lambda at: (images[at], targets[at]), [at], (tf.uint8, tf.float32))
        return tf.ensure_shape(batch, (None, *images.shape[1:])), tf.ensure_shape(wanted, (None, targets.shape[1]))

    return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def published_model(image_shape: tuple[int, int, int], classes: int, weights: str | None) -> keras.Model:
    """Build the published network.

    It takes uint8 images (n, h, w, 3) and returns probabilities (n, classes). The first half of the backbone's layers
    is frozen.
    """
    base = keras.applications.MobileNetV2(input_shape=image_shape, alpha=0.35, include_top=False, weights=weights)
    for layer in base.layers[: int(FROZEN_SHARE * len(base.layers))]:
        layer.trainable = False
    image = keras.Input(image_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.RandomFlip("horizontal_and_vertical")(x)
    x = keras.layers.RandomRotation(0.1)(x)
    x = keras.layers.RandomZoom(0.1)(x)
    x = keras.layers.RandomContrast(0.1, value_range=(0, 1))(x)
    x = keras.layers.GaussianNoise(0.05)(x)
    x = keras.layers.Rescaling(255 / 127.5, offset=-1.0)(x)  # MobileNetV2's own preprocessing: 0..255 to -1..1
    x = keras.layers.GlobalAveragePooling2D()(base(x))
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(x))


class Budget(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Stop training at the step at which the seconds are used up, and count steps and time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.steps, self.used_up = seconds, 0, False
        self.wall_s = self.cpu_s = self.evaluating_s = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.started, self.started_cpu = time.perf_counter(), time.process_time()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self.wall_s = time.perf_counter() - self.started
        self.cpu_s = time.process_time() - self.started_cpu
        if self.wall_s >= self.seconds:
            self.used_up = self.model.stop_training = True

    def on_test_begin(self, logs: Any = None) -> None:
        self.test_started = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        if not self.used_up:  # the last evaluation is outside the budget
            self.evaluating_s += time.perf_counter() - self.test_started


def train(
    versions: np.ndarray, labels: np.ndarray, learning_rate: float, seconds: float, seed: int, weights: str | None
) -> tuple[keras.Model, dict[str, Any]]:
    """Train as published.

    Args:
        versions: uint8 (n, versions, h, w, 3).
        labels: int (n,), 0 <= label < classes.
        weights: `imagenet` or None.

    Returns:
        The model with the weights of the best epoch, and the figures of its training.
    """
    keras.utils.set_random_seed(seed)
    images = versions.reshape(-1, *versions.shape[2:])  # a NumPy view: versions of one image are consecutive
    repeated = np.repeat(labels, versions.shape[1])
    trained, held = train_test_split(
        np.arange(len(images)), test_size=VALIDATION_SHARE, stratify=repeated, random_state=seed
    )
    classes = np.unique(labels)
    targets = np.eye(len(classes), dtype="float32")[repeated]
    class_weights = compute_class_weight("balanced", classes=classes, y=repeated[trained])
    model = published_model(versions.shape[2:], len(classes), weights)
    model.compile(keras.optimizers.AdamW(learning_rate), "categorical_crossentropy", metrics=["accuracy"])
    budget = Budget(seconds)
    history = model.fit(
        batches(images, targets, trained, training=True),
        validation_data=batches(images, targets, held, training=False),
        class_weight=dict(enumerate(class_weights)),
        epochs=MAX_EPOCHS,
        shuffle=False,  # the batches shuffle themselves
        verbose=2,
        callbacks=[
            budget,
            keras.callbacks.ReduceLROnPlateau(monitor="val_accuracy", factor=0.5, patience=2),
            keras.callbacks.EarlyStopping(monitor="val_accuracy", patience=5, restore_best_weights=True),
        ],
    ).history
    own = history["val_accuracy"]
    return model, {
        "versions_per_image": versions.shape[1],
        "training_images": len(trained),
        "validation_images": len(held),
        "validation_images_with_a_version_in_training": float(
            np.isin(held // versions.shape[1], trained // versions.shape[1]).mean()
        ),
        "stopped_by": "seconds" if budget.used_up else "early stopping",
        "wall_s": budget.wall_s,
        "cpu_s": budget.cpu_s,
        "evaluating_s": budget.evaluating_s,
        "epochs": budget.steps / (len(trained) // BATCH),
        "steps": budget.steps,
        "images_seen": budget.steps * BATCH,
        "images_per_s": budget.steps * BATCH / (budget.wall_s - budget.evaluating_s),
        "own_validation_accuracy": max(own),
        "own_validation_accuracy_by_epoch": own,
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="workspace with a prepared set")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, required=True, help="wall-clock seconds of training")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.keras and recipe.json")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet", help="default: %(default)s")
    options = parser.parse_args(arguments)
    prepared = PreparedSet.open(options.images / "prepared")
    started = time.perf_counter()
    versions = all_versions(np.concatenate([prepared.images(split) for split in ("train", "validation")]), options.seed)
    augmenting_s = time.perf_counter() - started
    labels = np.concatenate([prepared.labels(split) for split in ("train", "validation")])
    weights = None if options.weights == "none" else options.weights
    model, figures = train(versions, labels, options.learning_rate, options.seconds, options.seed, weights)
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in ("keras", "tensorflow", "keras-cv", "numpy")},
        "prepared": prepared.fingerprint,
        "class_names": prepared.class_names,
        "learning_rate": options.learning_rate,
        "seconds": options.seconds,
        "seed": options.seed,
        "augmenting_s": augmenting_s,
        **figures,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    model.save(options.out / "model.keras")
    (options.out / "recipe.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{options.out}: own (leaky) validation accuracy {figures['own_validation_accuracy']:.4f}", end=", ")
    print(f"{figures['images_seen']:,} images in {figures['wall_s']:.0f} s, stopped by {figures['stopped_by']}")


if __name__ == "__main__":
    main()
