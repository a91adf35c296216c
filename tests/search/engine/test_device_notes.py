"""What a run says about its device: GPUs are pretended by files in a folder that stands for /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.engine import device_notes, keras_import
from search.engine.device_notes import device_lines, require_gpus
from search.engine.per_gpu import ON_GPU
from search.errors import SearchError


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keras_import, "DEVICES", tmp_path)
    monkeypatch.setattr(device_notes, "DEVICES", tmp_path)
    for name in (ON_GPU, "CUDA_VISIBLE_DEVICES", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_machine_without_a_gpu_trains_on_the_cpu_and_refuses_gpus(devices: Path) -> None:
    (line,) = device_lines("CPU")
    assert line.startswith("training on the CPU, ") and " core" in line
    with pytest.raises(SearchError, match=r"--gpus 0,1 needs GPUs, and this machine has none .*: leave the option out"):
        require_gpus("0,1")
    assert "CUDA_VISIBLE_DEVICES" not in keras_import.default_environment()


@pytest.mark.parametrize(("backend", "way_out"), [("tensorflow", "'hpsearch[gpu]'"), ("jax", "'jax[cuda12]'")])
def test_a_gpu_that_the_backend_does_not_see_is_named(
    backend: str, way_out: str, devices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", backend)
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (devices / name).touch()
    _, warning = device_lines("CPU")
    assert warning.startswith("warning: this machine has a GPU") and "nvidia0" in warning and way_out in warning
    require_gpus("0")
    monkeypatch.setenv(ON_GPU, "1")
    with pytest.raises(SearchError, match=f"--gpus 1: {backend} sees no GPU: pip install"):
        device_lines("CPU")
    monkeypatch.delenv(ON_GPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert len(device_lines("CPU")) == 1  # the user hid it


def test_a_gpu_is_named_and_a_process_sees_one_and_grows_in_it(devices: Path) -> None:
    assert device_lines("NVIDIA H100") == ["training on NVIDIA H100"]
    (devices / "nvidia0").touch()
    environment = keras_import.default_environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "0"
    assert (
        environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" and environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    )
