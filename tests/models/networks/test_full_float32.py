"""Predictions that are stored or compared are computed without TF32, which GPUs would round their inputs to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorflow.config import experimental

from models.formats.registry import open_keras
from models.networks.predicting import predict

CONTEXT_UNDER_JAX = """
import jax, numpy as np
from models.networks.predicting import predict

class Asking:
    def predict_on_batch(self, images):
        return np.full((len(images), 1), jax.config.jax_default_matmul_precision == "highest")

assert predict(Asking(), np.zeros((3, 2))).all() and jax.config.jax_default_matmul_precision is None
"""


@pytest.fixture(autouse=True)
def tf32() -> Iterator[None]:
    """TF32 as TensorFlow has it when it starts."""
    experimental.enable_tensor_float_32_execution(True)
    yield
    experimental.enable_tensor_float_32_execution(True)


class OnAmpere:
    """A product of matrices as a GPU with TF32 computes it: factors with 10 bits of mantissa."""

    def __init__(self, kernel: np.ndarray) -> None:
        self.kernel = kernel

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        if experimental.tensor_float_32_execution_enabled():
            return self._rounded(x) @ self._rounded(self.kernel)
        product: np.ndarray = x @ self.kernel
        return product

    def _rounded(self, x: np.ndarray) -> np.ndarray:
        return (x.astype("float32").view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def test_probabilities_of_a_gpu_agree_with_those_of_a_cpu() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(10, 64)).astype("float32"), rng.normal(size=(64, 3)).astype("float32")
    device = OnAmpere(kernel)
    assert np.abs(device.predict_on_batch(x) - x @ kernel).max() > 1e-3  # as it would be compared otherwise
    np.testing.assert_allclose(predict(device, x, 4), x @ kernel, atol=1e-5)
    assert experimental.tensor_float_32_execution_enabled()  # training steps may use it


class Nothing:
    """A model that cannot predict."""


def test_a_failed_prediction_leaves_the_setting_as_it_was() -> None:
    with pytest.raises(AttributeError):
        predict(Nothing(), np.zeros((2, 3)))  # type: ignore[arg-type]
    assert experimental.tensor_float_32_execution_enabled()


def test_the_fresh_process_of_an_export_predicts_without_tf32(tmp_path: Path) -> None:
    image = keras.Input((4, 4, 3), dtype="uint8")
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(tmp_path / "model.keras")
    open_keras(tmp_path / "model.keras")
    assert not experimental.tensor_float_32_execution_enabled()


@pytest.mark.slow
def test_predictions_under_jax_have_the_highest_precision() -> None:
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CONTEXT_UNDER_JAX], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
