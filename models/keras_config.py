"""What Keras takes from the user's machine: its folder, its backend and its defaults. Importing it imports no Keras.

Everything that depends on the backend asks `backend_name`, and child processes get the answer in KERAS_BACKEND.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.errors import ModelError

VARIABLE, TENSORFLOW = "KERAS_BACKEND", "tensorflow"
SUPPORTED = (TENSORFLOW, "jax")
"""Backends with a row in models/networks/compiled_steps.py."""
SET_ASIDE = ("TF_USE_LEGACY_KERAS", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")
"""Variables that would give another Keras than version 3, or cut its predictions short."""
ALLOWED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"floatx": ("float16", "float32", "float64"), "image_data_format": ("channels_last", "channels_first")}
)
"""Keys of keras.json -> their values. Keras does not start with others."""


def keras_folder() -> Path:
    """Return the folder of Keras's settings and pretrained weights, found as Keras finds it."""
    named = os.environ.get("KERAS_HOME")
    if named is not None:
        return Path(named).expanduser()
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")


def config_file() -> Path:
    """Return the path of the user's keras.json, which need not exist."""
    return keras_folder() / "keras.json"


def backend_name() -> str:
    """Return the backend that Keras uses here: that of the variable, else that of keras.json, else TensorFlow.

    Raises:
        ModelError: Keras cannot start with this keras.json.
    """
    return os.environ.get(VARIABLE) or str(_content().get("backend", TENSORFLOW))


def check_backend() -> str:
    """Return the backend's name after checking that trials can run on it here.

    Raises:
        ModelError: Keras cannot start with this keras.json, or the backend is not supported or not installed.
    """
    name = backend_name()
    where = VARIABLE if os.environ.get(VARIABLE) else f'"backend" in {config_file()}'
    if name not in SUPPORTED:
        raise ModelError(f"{where} must be {' or '.join(SUPPORTED)}, but is {name}: set {VARIABLE}={TENSORFLOW}")
    if find_spec(name) is None:
        raise ModelError(f"{where} is {name}, which is not installed: pip install {name}, or set {VARIABLE}=tensorflow")
    _check_defaults(_content())
    return name


def set_aside() -> list[str]:
    """Remove the variables of SET_ASIDE from this process's environment, and return those that were set."""
    return [name for name in SET_ASIDE if os.environ.pop(name, None)]


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that imports Keras: this one's, with the backend said explicitly.

    Raises:
        ModelError: Keras cannot start with this keras.json.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SET_ASIDE}
    return kept | {VARIABLE: backend_name()}


def set_defaults(keras: Any) -> None:
    """Give Keras its own defaults, whatever keras.json and the environment say: trials must not depend on them."""
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


def _content() -> dict[str, Any]:
    """Return what keras.json holds; nothing if it is missing or no JSON, which Keras passes over too."""
    path = config_file()
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return {}
    except OSError as error:
        raise _refused(f"cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise _refused("must hold a JSON object")
    return content


def _check_defaults(content: Mapping[str, Any]) -> None:
    for key, values in ALLOWED.items():
        if content.get(key, values[0]) not in values:
            raise _refused(f"has {key} {content[key]!r}, which must be {', '.join(values[:-1])} or {values[-1]}")
    if not isinstance(content.get("epsilon", 0.0), float):
        raise _refused(f"has epsilon {content['epsilon']!r}, which must be a float such as 1e-7")


def _refused(why: str) -> ModelError:
    return ModelError(
        f"{config_file()} {why}, so Keras does not start: correct it, or set KERAS_HOME to another folder"
    )
