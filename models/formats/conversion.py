"""Writes an exported model in further formats, and proves each by its own runtime in a fresh process.

Importing this module does not import Keras.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from models.errors import ModelError
from models.formats import registry
from models.formats.registry import KERAS, Format, Runtime

ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
"""GPUs round float32 to fewer bits, and LiteRT and ONNX are run on the CPU: all formats are compared there."""


def check_installed(row: Format, writing: bool = False) -> None:
    """ModelError with the way out where what a format needs is not installed."""
    needed = (*(row.writers if writing else ()), *row.runtime)
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        way_out = f"'hpsearch[{row.extra}]'" if row.extra else " ".join(missing)
        raise ModelError(f"--format {row.name} needs {', '.join(missing)}, not installed: pip install {way_out}")


def open_format(row: Format, path: Path) -> Runtime:
    """The model in this process. ModelError when its runtime is not installed, or does not open it as a classifier."""
    check_installed(row)
    try:
        runtime = row.open(path)
    except Exception as error:
        raise ModelError(f"{path} does not open as {row.title}: {' '.join(str(error).split())[:200]}") from error
    shape = runtime.image_shape
    if not (len(shape) == 3 and shape[2] == 3):
        raise ModelError(f"{path} is no image classifier: it takes {shape}, not (height, width, 3)")
    return runtime


def write_format(row: Format, model: Path, target: Path) -> None:
    """The `.keras` file `model` in this format. ModelError with the reason when it cannot be converted."""
    done = _run(["write", row.name, model, target], target.parent, ON_CPU)
    if done.returncode != 0:
        raise ModelError(f"the model cannot be written as {row.title}: {_last_words(done)}; {_way_out(row)}")


def predict_in_fresh_process(
    model: Path, images: Sequence[Path], folder: Path, name: str = KERAS, on_cpu: bool = False
) -> list[np.ndarray]:
    """Probabilities float32 (k, classes) by one new process that knows the runtime and nothing of ours, one per file.

    Args:
        model: in the format `name`.
        images: `.npy` files, uint8 (..., h, w, 3); k counts all views in order.
        folder: where the process leaves them.
        on_cpu: also where there is a GPU.

    Raises ModelError with the process's last line when it fails.
    """
    targets = [folder / f"probabilities-{number}.npy" for number in range(len(images))]
    pairs = [path for pair in zip(images, targets, strict=True) for path in pair]
    done = _run(["predict", name, model, *pairs], folder, ON_CPU if on_cpu else {})
    if done.returncode != 0:
        raise ModelError(f"the exported model {model} does not open or predict in a fresh process: {_last_words(done)}")
    return [np.load(target, allow_pickle=False) for target in targets]


def largest_difference(row: Format, model: Path, images: Path, expected: np.ndarray, folder: Path) -> float:
    """Between a probability by the format's own runtime, in a fresh process and an empty folder, and `expected`.

    Args:
        model: the written file or folder.
        images: `.npy` file, uint8 (n, h, w, 3).
        expected: the Keras model's probabilities, (n, classes).
        folder: where to work; an empty one.

    Raises ModelError when it is more than the format's tolerance.
    """
    try:
        (found,) = predict_in_fresh_process(model, [images], folder, row.name, on_cpu=True)
    except ModelError as error:
        raise ModelError(f"{error}; {_way_out(row)}") from error
    same_shape = found.shape == expected.shape
    difference = float(np.abs(found - expected).max()) if same_shape else np.inf
    if not difference <= row.tolerance:
        raise ModelError(
            f"as {row.title} the model's probabilities differ by {difference:.2g} from the Keras model's on validation "
            f"images, more than {row.tolerance}; {_way_out(row)}"
        )
    return difference


def _way_out(row: Format) -> str:
    return f"nothing was exported: leave out --format {row.name}"


def _run(arguments: Iterable[str | Path], folder: Path, more: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # Paths in full: the process works in `folder`, where no file of the user's can be imported in a library's place.
    full = [str(one.absolute()) if isinstance(one, Path) else one for one in arguments]
    command = [sys.executable, "-P", str(registry.__file__), *full]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=os.environ | more)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"its process was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
