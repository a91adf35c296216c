"""Search with what a user would write instead of hpsearch: a plain Optuna loop, or KerasTuner's Hyperband.

    python benchmarks/versus_parts/peers.py optuna|kerastuner SOURCE.npz FOLDER --started SECONDS --seed 0

Part of ../versus.py. Both are written as a good engineer would: tf.data, batch norm in inference mode, median pruning,
and one pass over the validation images in each epoch, which gives both the objective and the snapshot.

FOLDER gets the weights of each epoch that is the best of the run so far, and `events.jsonl`, one JSON object a line.
`time_s` of an event is the time since `--started`, the start of the process by time.time(). Events are `trial` (a trial
starts), `proposed` (its hyperparameters), `step` (the end of its first training step), `epoch` and `end`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import f1_score

TRAINED, BATCH, PREDICT_BATCH = 0.7, 32, 128
ROUND_EPOCHS = 36
"""Epochs of one Hyperband round with at most 6 epochs and factor 3, in 10 trainings."""
OPTIMIZERS: dict[str, Callable[[float], Any]] = {
    "adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.004),
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}


def network(shape: tuple[int, ...], classes: int, dropout: float, weights: str | None) -> tuple[Any, Any]:
    """Build the model, which maps images of 0..255 to probabilities; return it and the backbone in it."""
    base = keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=weights, input_shape=shape, pooling="avg"
    )
    images = keras.Input(shape)
    features = base(keras.layers.Rescaling(1 / 127.5, -1)(images))
    head = keras.layers.Dense(classes, activation="softmax")
    return keras.Model(images, head(keras.layers.Dropout(dropout)(features))), base


@dataclass(frozen=True)
class Data:
    """Images of a source in random order; the first 70 % are for training, the others for validation."""

    images: np.ndarray
    labels: np.ndarray
    seed: int
    weights: str
    """`imagenet` or a weights file."""

    @classmethod
    def read(cls, source: Path, seed: int, weights: str) -> Data:
        with np.load(source) as archive:
            order = np.random.default_rng(seed).permutation(len(archive["labels"]))
            return cls(archive["images"][order], archive["labels"].ravel()[order].astype("int32"), seed, weights)

    @property
    def training_images(self) -> int:
        return round(TRAINED * len(self.images))

    def training(self) -> tf.data.Dataset:
        n = self.training_images
        pairs = tf.data.Dataset.from_tensor_slices((self.images[:n], self.labels[:n]))
        return pairs.shuffle(n, seed=self.seed).batch(BATCH).prefetch(2)

    def validation(self) -> tf.data.Dataset:
        images = tf.data.Dataset.from_tensor_slices(self.images[self.training_images :])
        return images.batch(PREDICT_BATCH).prefetch(2)

    def build(self, frozen: float, dropout: float, learning_rate: float, optimizer: str) -> keras.Model:
        model, base = network(self.images.shape[1:], int(self.labels.max()) + 1, dropout, self.weights)
        for place, layer in enumerate(base.layers):
            # Freeze batch norm here: `fit` overrides `base(x, training=False)` (keras#20285).
            norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = place >= int(frozen * len(base.layers)) and not norm
        model.compile(OPTIMIZERS[optimizer](learning_rate), "sparse_categorical_crossentropy")
        return model


class Journal:
    """Writes the events, and the weights of each new best epoch."""

    def __init__(self, folder: Path, data: Data, started: float) -> None:
        self.folder, self.data, self.started = folder, data, started
        self.file = open(folder / "events.jsonl", "w")  # noqa: SIM115  open until the process ends
        self.truth, self.images = data.labels[data.training_images :], data.validation()
        self.trial, self.best, self.saved = -1, -1.0, 0

    def note(self, event: str, **content: Any) -> None:
        print(json.dumps({"event": event, "time_s": time.time() - self.started} | content), file=self.file, flush=True)

    def begin_trial(self) -> None:
        self.trial += 1
        self.note("trial", trial=self.trial)

    def end_epoch(self, model: keras.Model, train_s: float) -> float:
        """Return macro-F1 on the validation images; save the weights if it is the best so far."""
        guesses = model.predict(self.images, verbose=0).argmax(axis=1)
        value, weights = float(f1_score(self.truth, guesses, average="macro")), None
        if value > self.best:
            self.best, weights = value, f"{self.saved:04d}.npz"
            np.savez(self.folder / weights, *model.get_weights())
            self.saved += 1
        images = self.data.training_images
        self.note("epoch", trial=self.trial, value=value, train_s=train_s, images=images, weights=weights)
        return value


def watching(journal: Journal, pruned: Callable[[int, float], bool]) -> keras.callbacks.Callback:
    """Return a callback that reports to the journal, adds the value to the logs, and stops pruned trainings.

    Its state is in this closure, because KerasTuner deep-copies callbacks.
    """
    clock = {"epoch": 0.0}
    first = {"step": True}

    class Watching(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            first["step"] = True

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            clock["epoch"] = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if first["step"]:
                first["step"] = False
                journal.note("step", trial=journal.trial)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            value = journal.end_epoch(self.model, time.perf_counter() - clock["epoch"])
            logs["val_macro_f1"] = value
            self.model.stop_training = pruned(epoch, value)

    return Watching()


def optuna_loop(data: Data, journal: Journal, trials: int, epochs: int) -> None:
    import optuna

    training = data.training()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        journal.begin_trial()
        keras.backend.clear_session()
        keras.utils.set_random_seed(1000 * data.seed + trial.number)
        values: list[float] = []

        def pruned(epoch: int, value: float) -> bool:
            values.append(value)
            trial.report(value, epoch)
            return trial.should_prune()

        model = data.build(
            trial.suggest_float("frozen", 0, 1),
            trial.suggest_float("dropout", 0, 0.6),
            trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            trial.suggest_categorical("optimizer", list(OPTIMIZERS)),
        )
        journal.note("proposed", trial=trial.number, values=trial.params)
        model.fit(training, epochs=epochs, verbose=0, callbacks=[watching(journal, pruned)])
        if model.stop_training:
            raise optuna.TrialPruned
        return max(values)

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=data.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
        storage=f"sqlite:///{journal.folder / 'optuna.db'}",
    )
    study.optimize(objective, n_trials=trials, gc_after_trial=True)


def kerastuner_hyperband(data: Data, journal: Journal, trials: int, epochs: int) -> None:
    """Run the number of Hyperband rounds whose epochs come nearest to those of the Optuna loop."""
    import keras_tuner

    keras.utils.set_random_seed(data.seed)

    def build(hp: keras_tuner.HyperParameters) -> keras.Model:
        return data.build(
            hp.Float("frozen", 0, 1),
            hp.Float("dropout", 0, 0.6),
            hp.Float("learning_rate", 1e-5, 1e-2, sampling="log"),
            hp.Choice("optimizer", list(OPTIMIZERS)),
        )

    class Tuner(keras_tuner.Hyperband):
        def run_trial(self, *arguments: Any, **options: Any) -> Any:
            journal.begin_trial()
            return super().run_trial(*arguments, **options)

    tuner = Tuner(
        build,
        keras_tuner.Objective("val_macro_f1", "max"),
        max_epochs=epochs,
        factor=3,
        hyperband_iterations=max(1, round(trials * epochs / ROUND_EPOCHS)),
        seed=data.seed,
        directory=str(journal.folder / "kerastuner"),
        overwrite=True,
    )
    tuner.search(data.training(), verbose=0, callbacks=[watching(journal, lambda epoch, value: False)])
    # KerasTuner continues after failed trials, which would silently be missing from the figures.
    messages = [trial.message for trial in tuner.oracle.trials.values() if trial.status != "COMPLETED"]
    if messages:
        raise RuntimeError(f"{len(messages)} trials failed, the first with: {messages[0]}")


LOOPS = {"optuna": optuna_loop, "kerastuner": kerastuner_hyperband}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=LOOPS)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--started", type=float, required=True)
    for name, value in (("seed", 0), ("trials", 12), ("epochs", 6)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--weights", default="imagenet")
    options = parser.parse_args()
    data = Data.read(options.source, options.seed, options.weights)
    journal = Journal(options.folder, data, options.started)
    LOOPS[options.system](data, journal, options.trials, options.epochs)
    journal.note("end", peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
