"""What to do with a model file that is no `.keras` file: one line for each kind.

To add a kind, add a row to KINDS. Importing this module does not import Keras.
"""

from __future__ import annotations

from pathlib import Path

from models.errors import ModelError

_LOADED = "keras.saving.load_model('{name}', compile=False)"
_BY_KERAS = f"convert it with `python -c \"import keras; {_LOADED}.save('{{stem}}.keras')\"`"
_BY_TF_KERAS = (
    'install tf_keras, convert it with `TF_USE_LEGACY_KERAS=1 python -c "import tf_keras; '
    "tf_keras.models.load_model('{name}').save('{stem}.h5')\"`, and then the .h5 file with Keras 3"
)
_REBUILT = "build the network in Keras, and give it as module:function or save it with model.save('{stem}.keras')"

HDF5, SAVED_MODEL, WEIGHTS = "a model in HDF5, as Keras 2 saved it", "a TensorFlow SavedModel", "weights alone"
KINDS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((".weights.h5",), WEIGHTS, "give the network as module:function and this file as --weights"),
    ((".h5", ".hdf5", ".hdf"), HDF5, _BY_KERAS),
    ((".pb", ".pbtxt"), "a TensorFlow graph", f"if it is part of a SavedModel that Keras wrote, {_BY_TF_KERAS}"),
    ((".tflite", ".lite"), "a LiteRT model, which cannot be trained further", "give the Keras model it was made from"),
    ((".onnx", ".ort"), "an ONNX model", _REBUILT),
    ((".pt", ".pth", ".bin", ".safetensors", ".torchscript"), "a PyTorch or safetensors file", _REBUILT),
    ((".ckpt", ".index", ".meta"), "a TensorFlow checkpoint, which holds weights alone", _REBUILT),
    ((".json", ".yaml", ".yml"), "an architecture without weights", _REBUILT),
    ((".zip", ".tar", ".gz", ".tgz"), "an archive", "unpack it and give the .keras file in it"),
)
"""Endings of file names, what such a file is, and the way out; `{name}` and `{stem}` stand for the file."""
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_ZIP_START = b"PK\x03\x04"


def looks_like_path(text: str) -> bool:
    """Return whether a text names a file or folder rather than a backbone or a function."""
    endings = (".keras", *(ending for row in KINDS for ending in row[0]))
    return text.lower().endswith(endings) or "/" in text or "\\" in text or (":" not in text and Path(text).exists())


def check_is_keras_file(path: Path) -> None:
    """Check that a path is a file in Keras's zip format, which the name `.keras` says.

    Raises:
        ModelError: It is missing or something else; the message says how to convert it.
    """
    if path.is_dir():
        raise ModelError(_about_folder(path))
    if not path.is_file():
        raise ModelError(
            f"there is no file {path}: --backbone takes a name from `hpsearch backbones`, PATH.keras or module:function"
        )
    with open(path, "rb") as file:
        start = file.read(len(_HDF5_START))
    name = path.name.lower()
    if name.endswith(".keras") and start.startswith(_ZIP_START):
        return
    row = next((row for row in KINDS if name.endswith(row[0])), None)
    if row and row[1] == WEIGHTS:
        raise ModelError(_line(path, *row[1:]))
    if start == _HDF5_START:
        way_out = _BY_KERAS
        if not name.endswith(KINDS[1][0]):  # Keras goes by the ending
            way_out = f"rename it to {path.stem}.h5, and {_BY_KERAS.replace('{name}', '{stem}.h5')}"
        raise ModelError(_line(path, HDF5, way_out))
    if name.endswith(".keras"):
        raise ModelError(f"{path} is not a .keras file (it is no zip file): save the model with model.save, or copy "
                         "the file again if it is incomplete")  # fmt: skip
    if start.startswith(_ZIP_START) and row is None:
        raise ModelError(f"{path} does not end in .keras: rename it if Keras saved it so")
    raise ModelError(_line(path, *(row[1:] if row else ("of an unknown kind", _REBUILT))))


def _about_folder(path: Path) -> str:
    inside = sorted(path.glob("*.keras"))
    if inside:
        return f"{path} is a folder: give the file in it, {inside[0]}"
    if (path / "saved_model.pb").is_file():
        return _line(path, SAVED_MODEL, f"if Keras wrote it, {_BY_TF_KERAS}; else {_REBUILT}")
    return f"{path} is a folder without a .keras file: give PATH.keras, as model.save('{path.name}.keras') writes it"


def _line(path: Path, what: str, way_out: str) -> str:
    stem = path.name.removesuffix(".gz").split(".")[0] if path.is_file() else path.name
    return f"{path} is {what}, not a .keras file: {way_out.format(name=path, stem=path.with_name(stem))}"
