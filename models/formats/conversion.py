"""Converts an exported model to other formats, and verifies each with its own runtime in a fresh process.

Importing this module does not import Keras.
"""

from __future__ import annotations

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
from models.keras_config import child_environment

ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
"""Environment that hides GPUs. Formats are compared on the CPU, because LiteRT and ONNX run there."""
BY_TENSORFLOW = {"KERAS_BACKEND": "tensorflow"}
"""Environment for writing a format. Keras converts models best from TensorFlow, and to LiteRT from nothing else. A
`.keras` file does not depend on the backend that trained it."""


def check_installed(row: Format, writing: bool = False) -> None:
    """Check that the modules which a format needs are installed.

    Args:
        row: The format.
        writing: Whether to check the modules for writing it too, not only those for using it.

    Raises:
        ModelError: A module is missing; the message says what to install.
    """
    needed = (*(row.writers if writing else ()), *row.runtime)
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        way_out = f"'hpsearch[{row.extra}]'" if row.extra else " ".join(missing)
        raise ModelError(
            f"--format {row.name} needs {', '.join(missing)}, which must be installed: pip install {way_out}"
        )


def open_format(row: Format, path: Path) -> Runtime:
    """Open a model in this process with the runtime of its format.

    Raises:
        ModelError: The runtime is not installed, cannot open the model, or the model is no image classifier.
    """
    check_installed(row)
    try:
        runtime = row.open(path)
    except Exception as error:
        raise ModelError(f"{path} does not open as {row.title}: {' '.join(str(error).split())[:200]}") from error
    shape = runtime.image_shape
    if not (len(shape) == 3 and shape[2] == 3):
        raise ModelError(
            f"{path} must take images of shape (height, width, 3), but takes {shape}: give an image classifier"
        )
    return runtime


def write_format(row: Format, model: Path, target: Path) -> None:
    """Convert the `.keras` file `model` to a format, and write it to `target`.

    Raises:
        ModelError: The model cannot be converted; the message gives the reason.
    """
    done = _run(["write", row.name, model, target], target.parent, ON_CPU | BY_TENSORFLOW)
    if done.returncode != 0:
        raise ModelError(f"the model cannot be written as {row.title}: {_last_words(done)}; {_way_out(row)}")


def predict_in_fresh_process(
    model: Path, images: Sequence[Path], folder: Path, name: str = KERAS, on_cpu: bool = False
) -> list[np.ndarray]:
    """Predict with the format's runtime in one new process that cannot import hpsearch's packages.

    Args:
        model: Model in the format `name`.
        images: `.npy` files, each uint8 (..., h, w, 3).
        folder: Folder in which the process writes the probabilities.
        name: Name of the format.
        on_cpu: Whether to use the CPU even if there is a GPU.

    Returns:
        For each file, probabilities float32 (k, classes), where k counts the file's images (all views in order).

    Raises:
        ModelError: The process failed; the message ends with the last line of its output.
    """
    targets = [folder / f"probabilities-{number}.npy" for number in range(len(images))]
    pairs = [path for pair in zip(images, targets, strict=True) for path in pair]
    done = _run(["predict", name, model, *pairs], folder, ON_CPU if on_cpu else {})
    if done.returncode != 0:
        raise ModelError(f"the exported model {model} does not open or predict in a fresh process: {_last_words(done)}")
    return [np.load(target, allow_pickle=False) for target in targets]


def largest_difference(row: Format, model: Path, images: Path, expected: np.ndarray, folder: Path) -> float:
    """Return the largest difference between the format's probabilities and the Keras model's.

    The format's runtime predicts in a fresh process, in an empty folder.

    Args:
        row: The format.
        model: Converted file or folder.
        images: `.npy` file, uint8 (n, h, w, 3).
        expected: Probabilities of the Keras model, (n, classes).
        folder: Empty folder to work in.

    Raises:
        ModelError: The model cannot predict, or the difference exceeds the format's tolerance.
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
    # Paths are absolute because the process runs in `folder`, where no user's file can shadow a library.
    full = [str(one.absolute()) if isinstance(one, Path) else one for one in arguments]
    command = [sys.executable, "-P", str(registry.__file__), *full]
    env = child_environment() | {"PYTHONIOENCODING": "utf-8:backslashreplace"} | more
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", cwd=folder, env=env)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"its process was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
