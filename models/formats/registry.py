"""The formats of an exported model: how each is written, and how its own runtime opens it.

To add one: a row in FORMATS; tests/models/formats/test_registry.py runs over all rows. Every format takes raw uint8
images, any number at a time, and gives probabilities.

Run by its path, this file writes or predicts in a process of its own that imports nothing of this project:
    python formats.py write FORMAT MODEL.keras TARGET
    python formats.py predict FORMAT MODEL [IMAGES.npy PROBABILITIES.npy]...
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 128
KERAS = "keras"
OWN_PACKAGES = ("data_prep", "models", "search", "studies")

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Runtime:
    """A model opened by the runtime of its format."""

    predict: Predict
    """uint8 (n, h, w, 3) -> probabilities float32 (n, classes), for any n."""
    image_shape: tuple[int, ...]
    """(h, w, 3)."""


@dataclass(frozen=True)
class Format:
    """One way to hand a model over."""

    name: str
    title: str
    """What it is."""
    file: str
    """Its file or folder in the export."""
    write: Callable[[Path, Path], None] | None
    """`.keras` file, target; None: it is the file that the others are written from."""
    open: Callable[[Path], Runtime]
    writers: tuple[str, ...]
    """Modules that must be installed to write it."""
    runtime: tuple[str, ...]
    """Modules that must be installed to use it."""
    extra: str
    """The extra of hpsearch that brings both; empty where hpsearch itself does."""
    usage: str
    """How its user predicts, in Python; `images` is a batch, and `probabilities` or `labels` come out."""
    tolerance: float = 1e-4
    """Largest difference between one of its probabilities and the Keras model's; labels are then the same wherever
    the two largest are further apart than twice that."""


def open_keras(path: Path) -> Runtime:
    import keras

    model = keras.saving.load_model(path)
    return Runtime(lambda images: model.predict(images, batch_size=BATCH, verbose=0), model.input_shape[1:])


def write_saved_model(model: Path, target: Path) -> None:
    _loaded(model).export(target, format="tf_saved_model", verbose=False)


def open_saved_model(path: Path) -> Runtime:
    import tensorflow as tf

    served = tf.saved_model.load(path).signatures["serving_default"]
    ((name, spec),) = served.structured_input_signature[1].items()

    def answer(batch: np.ndarray) -> np.ndarray:
        (found,) = served(**{name: tf.constant(batch)}).values()
        return np.asarray(found)

    return Runtime(_by_batch(answer), tuple(spec.shape[1:]))


def write_onnx(model: Path, target: Path) -> None:
    loaded = _loaded(model)
    # Its signature is given, since Keras looks for one only in a model that was called.
    loaded.export(target, format="onnx", input_signature=loaded.inputs, verbose=False)


def open_onnx(path: Path) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: its warnings are of processors and drivers
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return Runtime(_by_batch(lambda batch: session.run(None, {image.name: batch})[0]), tuple(image.shape[1:]))


def write_litert(model: Path, target: Path) -> None:
    _loaded(model).export(target, format="litert", verbose=False)


def open_litert(path: Path) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()  # it prints a line the first time: while it is opened, rather than between figures
    runner = interpreter.get_signature_runner()
    ((name, image),) = runner.get_input_details().items()

    def answer(batch: np.ndarray) -> np.ndarray:
        (found,) = runner(**{name: batch}).values()
        return np.asarray(found)

    return Runtime(_by_batch(answer), tuple(int(side) for side in image["shape"][1:]))


def write_codabench(model: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.write(Path(__file__).with_name("codabench_model.py"), "model.py")
        archive.write(model, "model.keras")


def open_codabench(path: Path) -> Runtime:
    from importlib.util import module_from_spec, spec_from_file_location

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        spec = spec_from_file_location("codabench_submission", Path(folder) / "model.py")
        assert spec and spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.Model()

    def answer(images: np.ndarray) -> np.ndarray:
        # The challenge asks for labels alone: they are asked for too, so that what scores them is what is checked.
        labels, probabilities = model.predict(images), np.asarray(model.predict_proba(images))
        if not np.array_equal(labels, probabilities.argmax(axis=1)):
            raise ValueError("its predict gives other labels than those of its largest probabilities")
        return probabilities

    return Runtime(answer, model.image_shape)


def _loaded(model: Path) -> Any:
    import keras

    return keras.saving.load_model(model, compile=False)


def _by_batch(answer: Predict) -> Predict:
    """A few images at a time: memory grows with a batch."""

    def predict(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), BATCH)
        return np.concatenate([answer(np.ascontiguousarray(images[start : start + BATCH])) for start in starts])

    return predict


_ROWS = (
    Format(
        KERAS, "Keras model", "model.keras", None, open_keras, ("keras",), ("keras",), "",
        """\
import keras
model = keras.saving.load_model("model.keras")
probabilities = model.predict(images)
""",
    ),
    Format(
        "saved_model", "TensorFlow SavedModel", "saved_model", write_saved_model, open_saved_model,
        ("tensorflow",), ("tensorflow",), "",
        """\
import tensorflow as tf
model = tf.saved_model.load("saved_model")
probabilities = model.serve(images).numpy()
""",
    ),
    Format(
        "onnx", "ONNX", "model.onnx", write_onnx, open_onnx, ("onnx", "tf2onnx"), ("onnxruntime",), "onnx",
        """\
import onnxruntime
model = onnxruntime.InferenceSession("model.onnx")
probabilities = model.run(None, {"image": images})[0]
""",
    ),
    Format(
        "litert", "LiteRT (TensorFlow Lite)", "model.tflite", write_litert, open_litert,
        ("tensorflow",), ("ai_edge_litert",), "litert",
        """\
from ai_edge_litert.interpreter import Interpreter
model = Interpreter("model.tflite").get_signature_runner()
probabilities = model(image=images)["output_0"]
""",
    ),
    Format(
        "codabench", "Codabench submission", "codabench.zip", write_codabench, open_codabench,
        ("keras",), ("keras",), "",
        """\
from model import Model  # unzipped into this folder: it needs Keras and NumPy alone
model = Model()
labels = model.predict(images)  # int (n,): each image's class number, as in labels.json
""",
    ),
)  # fmt: skip
FORMATS = {row.name: row for row in _ROWS}


def _main(action: str, name: str, model: str, *paths: str) -> None:
    for package in OWN_PACKAGES:  # installed or not: what is written must open without them
        sys.modules[package] = None  # type: ignore[assignment]
    row = FORMATS[name]
    if action == "write" and row.write:
        row.write(Path(model), Path(paths[0]))
        return
    runtime = row.open(Path(model))
    for images_path, target in zip(paths[::2], paths[1::2], strict=True):
        images = np.load(images_path, mmap_mode="r")
        images = images.reshape(-1, *images.shape[-3:])  # corrupted images have a further axis: their views
        np.save(target, runtime.predict(images))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _main(*sys.argv[1:])
    except Exception as error:
        traceback.print_exc()
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
