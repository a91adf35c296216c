"""The formats of an exported model: how each is written, and how its own runtime opens it.

To add one, add a row to _ROWS; tests/models/formats/test_registry.py tests all rows. Every format takes any number of
raw uint8 images and returns probabilities.

Run as a script, this file writes or predicts in a process that imports no other module of this project:
    python registry.py write FORMAT MODEL.keras TARGET
    python registry.py predict FORMAT MODEL [IMAGES.npy PROBABILITIES.npy]...
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # not imported at run time: `--help` needs the names of the formats alone
    import numpy as np

BATCH = 128
KERAS = "keras"
OWN_PACKAGES = ("data_prep", "models", "search", "studies")

Predict = Callable[["np.ndarray"], "np.ndarray"]


@dataclass(frozen=True)
class Runtime:
    """Model opened by the runtime of its format."""

    predict: Predict
    """Function from images uint8 (n, h, w, 3) to probabilities float32 (n, classes), for any n."""
    image_shape: tuple[int, ...]
    """Shape of an image, (h, w, 3)."""


@dataclass(frozen=True)
class Format:
    """File format of an exported model."""

    name: str
    title: str
    """Name shown to users."""
    file: str
    """Name of its file or folder in an export."""
    write: Callable[[Path, Path], None] | None
    """Function (`.keras` file, target) that writes the format; None for the `.keras` file itself."""
    open: Callable[[Path], Runtime]
    """Function that opens the written file or folder."""
    writers: tuple[str, ...]
    """Modules that must be installed to write it."""
    runtime: tuple[str, ...]
    """Modules that must be installed to use it."""
    extra: str
    """Extra of hpsearch that installs these modules; empty if hpsearch always installs them."""
    usage: str
    """Python example for its users: predicts `probabilities` or `labels` from a batch `images`."""
    tolerance: float = 1e-4
    """Largest accepted difference from a probability of the Keras model. Labels agree wherever the two largest
    probabilities are more than twice this apart."""


def open_keras(path: Path) -> Runtime:
    import keras

    use_full_float32()
    model = keras.saving.load_model(path)
    return Runtime(lambda images: model.predict(images, batch_size=BATCH, verbose=0), model.input_shape[1:])


def write_saved_model(model: Path, target: Path) -> None:
    _loaded(model).export(target, format="tf_saved_model", verbose=False)


def open_saved_model(path: Path) -> Runtime:
    import numpy as np
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "saved_model")  # TensorFlow takes [ and * in a path for a pattern
        plain.symlink_to(path.absolute(), target_is_directory=True)
        served = tf.saved_model.load(plain).signatures["serving_default"]
    ((name, spec),) = served.structured_input_signature[1].items()

    def answer(batch: np.ndarray) -> np.ndarray:
        (found,) = served(**{name: tf.constant(batch)}).values()
        return np.asarray(found)

    return Runtime(_by_batch(answer), tuple(spec.shape[1:]))


def write_onnx(model: Path, target: Path) -> None:
    loaded = _loaded(model)
    # The signature is given because Keras only finds it in a model that has been called.
    loaded.export(target, format="onnx", input_signature=loaded.inputs, verbose=False)


def open_onnx(path: Path) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: its warnings are about processors and drivers
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return Runtime(_by_batch(lambda batch: session.run(None, {image.name: batch})[0]), tuple(image.shape[1:]))


def write_litert(model: Path, target: Path) -> None:
    _loaded(model).export(target, format="litert", verbose=False)


def open_litert(path: Path) -> Runtime:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()  # prints a line the first time: here, it stays out of printed results
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

    import numpy as np

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        spec = spec_from_file_location("codabench_submission", Path(folder) / "model.py")
        assert spec and spec.loader
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        try:
            model = module.Model()
        except SystemExit as error:  # it ends a challenge's process, not ours
            raise ValueError(str(error)) from error

    def answer(images: np.ndarray) -> np.ndarray:
        # The challenge only calls `predict`, so its labels are checked against the probabilities.
        labels, probabilities = model.predict(images), np.asarray(model.predict_proba(images))
        if not np.array_equal(labels, probabilities.argmax(axis=1)):
            raise ValueError("`predict` must return the classes of the largest probabilities, but returns others")
        return probabilities

    return Runtime(answer, model.image_shape)


def use_full_float32() -> None:
    """Switch TF32 off in this process, because the model's probabilities are compared with stored ones.

    models/networks/compiled_steps.py does the same, but this file imports no other module of the project.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)
    elif keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")


def _loaded(model: Path) -> Any:
    import keras

    return keras.saving.load_model(model, compile=False)


def _by_batch(answer: Predict) -> Predict:
    """Return a function that predicts in batches of BATCH, because memory grows with the batch."""
    import numpy as np

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
from model import Model  # unzip it into this folder first; it needs only Keras and NumPy
model = Model()
labels = model.predict(images)  # int (n,): each image's class number, as in labels.json
""",
    ),
)  # fmt: skip
FORMATS = {row.name: row for row in _ROWS}


def _main(action: str, name: str, model: str, *paths: str) -> None:
    import numpy as np

    for package in OWN_PACKAGES:  # blocks their import: the written file must open without them
        sys.modules[package] = None  # type: ignore[assignment]
    row = FORMATS[name]
    if action == "write" and row.write:
        row.write(Path(model), Path(paths[0]))
        return
    runtime = row.open(Path(model))
    for images_path, target in zip(paths[::2], paths[1::2], strict=True):
        images = np.load(images_path, mmap_mode="r")
        images = images.reshape(-1, *images.shape[-3:])  # corrupted images have an additional axis for their views
        np.save(target, runtime.predict(images))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        _main(*sys.argv[1:])
    except Exception as error:
        traceback.print_exc()
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
