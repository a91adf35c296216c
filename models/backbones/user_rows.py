"""Rows for users' own backbones: a `.keras` file, or a function called like those of keras.applications.

Each becomes a `Backbone` like the rows of registry.py, and user_networks.py builds its network. Importing this module
does not import Keras.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.backbones.other_files import check_is_keras_file, looks_like_path
from models.backbones.registry import BACKBONES, Backbone, backbone_named
from models.errors import ModelError

FOUND_OUT = "found out"
"""Preprocessing of a `.keras` file until user_networks.py has detected its row of models/backbones/preprocessing.py."""
PREPROCESSING_NAMES = ("inside", "-1..1", "bgr-mean", "rgb-mean-std")
"""Names of the rows in models/backbones/preprocessing.py, repeated here to avoid importing Keras."""
NAMES = frozenset(row.name for row in BACKBONES)
FILE, FUNCTION = (
    "models.backbones.user_networks:network_from_file",
    "models.backbones.user_networks:network_from_function",
)


def asked_backbone(text: str, preprocessing: str | None = None) -> Backbone:
    """Return the row of a backbone as the user names it.

    Args:
        text: A name in BACKBONES, PATH.keras or module:function.
        preprocessing: Name of a row in preprocessing.py, for a user's own network only. By default, it is detected from
            a file, and a function's network is expected to include it.

    Raises:
        ModelError: The name is unknown, the file is missing or no `.keras` file, or a preprocessing is given for a row
            of BACKBONES.
    """
    if looks_like_path(text) and text not in NAMES:
        return _of_file(Path(text), preprocessing or FOUND_OUT)
    if ":" in text:
        return _of_function(text, preprocessing or "inside")
    try:
        row = backbone_named(text)
    except ModelError as error:
        raise ModelError(f"{error} (for a network of your own, give PATH.keras or module:function)") from error
    if preprocessing:
        raise ModelError(
            f"--preprocessing is for a backbone of your own, but {row.name} always uses {row.preprocessing}: "
            "leave the option out"
        )
    return row


def stored_backbone(name: str, own: Mapping[str, str], file: str) -> Backbone:
    """Return the row of a backbone that a study has stored.

    Args:
        name: Name of the backbone.
        own: `Backbone.own`; empty for a row of BACKBONES.
        file: Current path of its `.keras` file, if it has one.

    Raises:
        ModelError: The name is unknown, or the file is missing or is no `.keras` file.
    """
    if not own:
        return backbone_named(name)
    if "function" in own:
        options = {"function": own["function"]}
        return Backbone(name, FUNCTION, own["preprocessing"], 0, 0, min_size=1, options=options, own=own)
    if not Path(file).is_file():
        raise ModelError(f"the backbone {name} needs the file {file}, which is missing: put the .keras file back there")
    return Backbone(name, FILE, own["preprocessing"], _image_size(file), 0, min_size=1, options={"path": file}, own=own)


def _of_file(path: Path, preprocessing: str) -> Backbone:
    check_is_keras_file(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    # Every export is called model.keras, so the name of its folder is used.
    stem = path.resolve().parent.name if path.stem == "model" else path.stem
    own = {"sha256": digest, "preprocessing": preprocessing}
    return stored_backbone(_own_name(stem), own, str(path.resolve()))


def _of_function(text: str, preprocessing: str) -> Backbone:
    module, _, function = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ModelError(f"a function must be given as module:function, such as my_networks:tiny, but is {text!r}")
    return stored_backbone(_own_name(function), {"function": text, "preprocessing": preprocessing}, "")


def _own_name(text: str) -> str:
    """Return a name that is valid for studies and folders and differs from all names in BACKBONES."""
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", text).strip("_.") or "own"
    return f"{name}_own" if name in NAMES else name


def _image_size(path: str) -> int:
    """Return the width in pixels of the images that the file's network takes; 0 if it takes any."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(f"{path} is not a .keras file ({error}): save the model with model.save") from error
    shape = _input_shape(config) or (None, None)
    return int(shape[1] or 0)


def _input_shape(config: Any) -> list[int | None] | None:
    """Return the input shape of the first input layer in a model's configuration, or None."""
    if isinstance(config, dict):
        if config.get("class_name") == "InputLayer":
            return config["config"].get("batch_shape")  # type: ignore[no-any-return]
        config = list(config.values())
    if isinstance(config, list):
        return next((shape for one in config if (shape := _input_shape(one))), None)
    return None
