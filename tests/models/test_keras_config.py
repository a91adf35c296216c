"""The user's keras.json and variables: one backend for all processes, and Keras's own defaults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.errors import ModelError
from models.keras_config import SUPPORTED, backend_name, check_backend, child_environment
from search.cli import main
from search.engine.job import NetworkSource
from search.engine.worker import Worker

ODD = {"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first", "backend": "tensorflow"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's folder, without settings and variables."""
    folder = tmp_path / "keras-home"
    folder.mkdir()
    monkeypatch.setenv("KERAS_HOME", str(folder))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    return folder


@pytest.mark.parametrize(
    ("variable", "text", "backend"),
    [
        (None, None, "tensorflow"),
        (None, '{"backend": "jax"}', "jax"),
        ("", '{"backend": "jax"}', "jax"),
        ("tensorflow", '{"backend": "jax"}', "tensorflow"),
        (None, '{"floatx": "float64"}', "tensorflow"),
        (None, "{broken", "tensorflow"),
    ],
)
def test_the_backend_is_the_one_that_keras_takes(
    variable: str | None, text: str | None, backend: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if text is not None:
        (home / "keras.json").write_text(text)
    assert check_backend() == backend_name() == child_environment()["KERAS_BACKEND"] == backend


def test_without_keras_home_the_file_lies_in_the_home_folder_or_in_tmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KERAS_HOME", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backend_name() == "jax"
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert child_environment()["KERAS_BACKEND"] != "jax"


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("torch", None, ["KERAS_BACKEND must be tensorflow or jax, but is torch"]),
        ("numpy", None, ["KERAS_BACKEND must be tensorflow or jax, but is numpy"]),
        ("Tensorflow", None, ["KERAS_BACKEND must be tensorflow or jax, but is Tensorflow"]),
        (None, '{"backend": "openvino"}', ["keras.json must be tensorflow or jax, but is openvino"]),
        (None, '{"backend": 5}', ["keras.json must be tensorflow or jax, but is 5"]),
        (None, '{"floatx": "bfloat16"}', ["keras.json has floatx 'bfloat16'", "correct it"]),
        (None, '{"floatx": ["float32"]}', ["keras.json has floatx ['float32']", "correct it"]),
        (None, '{"image_data_format": "first"}', ["keras.json has image_data_format 'first'"]),
        (None, '{"epsilon": 1}', ["keras.json has epsilon 1"]),
        (None, '["tensorflow"]', ["keras.json must hold a JSON object"]),
    ],
)
def test_settings_that_keras_cannot_start_with_are_named_in_one_line(
    variable: str | None, text: str | None, words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    if text is not None:
        (home / "keras.json").write_text(text)
    with pytest.raises(ModelError) as refused:
        check_backend()
    assert all(word in str(refused.value) for word in words), refused.value
    result = CliRunner().invoke(main, ["-w", str(home / "w"), "prepare", "demo"])
    assert result.exit_code == 1
    assert result.stderr == f"Error: {refused.value}\n"
    assert not (home / "w").exists()


def test_a_folder_in_place_of_the_file_is_named(home: Path) -> None:
    (home / "keras.json").mkdir()
    with pytest.raises(ModelError, match=r"keras\.json cannot be read \(Is a directory\)"):
        check_backend()


def test_a_missing_backend_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("models.keras_config.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="KERAS_BACKEND is jax, which is not installed: pip install jax"):
        check_backend()


def test_the_supported_backends_are_those_with_compiled_steps() -> None:
    from models.networks.compiled_steps import BACKENDS

    assert tuple(BACKENDS) == SUPPORTED


def test_a_training_process_is_told_the_backend_of_the_file(home: Path, tmp_path: Path) -> None:
    (home / "keras.json").write_text('{"backend": "jax"}')
    answer = "import json, os; input(); print(json.dumps({'event': 'described', 'is': os.environ['KERAS_BACKEND']}))"
    worker = Worker(tmp_path / "worker.log", (sys.executable, "-c", answer))
    try:
        assert worker.describe(NetworkSource("", "", ""), 0)["is"] == "jax"
    finally:
        worker.stop()


def test_variables_that_change_keras_are_named_and_set_aside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setenv("KERAS_MAX_STEPS_PER_EPOCH", "2")
    assert "TF_USE_LEGACY_KERAS" not in child_environment()
    result = CliRunner().invoke(main, ["-w", str(home), "backbones", "--json"])
    assert result.exit_code == 0
    assert "TF_USE_LEGACY_KERAS, KERAS_MAX_STEPS_PER_EPOCH" in result.stderr
    assert json.loads(result.stdout)


SHOW = """
from search.engine.keras_import import import_keras
import_keras()
import keras
print(keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format(), keras.config.dtype_policy().name)
"""


def test_keras_runs_with_its_own_defaults_whatever_the_file_says(home: Path) -> None:
    (home / "keras.json").write_text(json.dumps(ODD))
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.split() == ["float32", "1e-07", "channels_last", "float32"]
