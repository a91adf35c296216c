"""From a trial's weights to one `.keras` file of stock layers: raw uint8 images in, probabilities out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.backbones import UNTRAINED
from models.classifier import ClassifierSettings, make_classifier
from models.errors import ModelError

PLAIN_PREDICT = Path(__file__).with_name("plain_predict.py")


def save_model(settings: ClassifierSettings, dropout: float, weights: Path, target: Path) -> None:
    """Joins the network, loads a trial's weights into it and writes `target`.

    Raises ModelError when the weights do not fit.
    """
    # All weights come from the trial: the pretrained ones need not be on this machine.
    joined = make_classifier(replace(settings, weights=UNTRAINED), dropout).joined
    try:
        joined.load_weights(weights)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the trial's weights in {weights} do not load: {' '.join(str(error).split())[:200]}"
        ) from error
    joined.save(target)


def predict_in_fresh_process(model: Path, images: Sequence[Path], folder: Path) -> list[np.ndarray]:
    """Probabilities float32 (k, classes) by one new process that knows Keras and nothing of ours, one array per file.

    Args:
        images: `.npy` files, uint8 (..., h, w, 3); k counts all views in order.
        folder: where the process leaves them.

    Raises ModelError with the process's last line when it fails.
    """
    targets = [folder / f"probabilities-{number}.npy" for number in range(len(images))]
    pairs = [str(path) for pair in zip(images, targets, strict=True) for path in pair]
    command = [sys.executable, "-P", str(PLAIN_PREDICT), str(model), *pairs]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ModelError(f"the exported model {model} does not open or predict in a fresh process: {last}")
    return [np.load(target, allow_pickle=False) for target in targets]


def load_model(path: Path) -> tuple[object, tuple[int, int, int]]:
    """An exported model and its image shape (h, w, 3). ModelError when it is not one."""
    import keras

    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f"{path} does not open as a Keras model: {' '.join(str(error).split())[:200]}") from error
    shape = getattr(model, "input_shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3 and all(shape[1:])):
        raise ModelError(f"{path} is no image classifier: its input is {shape}, not (images, height, width, 3)")
    return model, shape[1:]
