"""Small things that many tests share: tiny images, a tiny prepared set, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_images import tiny_images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the processes that train


@pytest.fixture(scope="session")
def own_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights for the small CNN at 32 pixels: trials that start from a file have a head phase and a frozen prefix."""
    import keras

    from models.backbones.registry import UNTRAINED, backbone_named, build

    weights = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    keras.utils.set_random_seed(0)
    build(backbone_named("small_cnn"), UNTRAINED, (32, 32, 3)).save_weights(weights)
    return weights


@pytest.fixture(scope="session")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "tiny.npz"
    images, labels = tiny_images(90)
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="session")
def tiny_external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images of two classes, without the third, for an external set."""
    path = tmp_path_factory.mktemp("external") / "other.npz"
    images, labels = tiny_images(30, seed=7)
    np.savez(path, images=images[labels < 2], labels=labels[labels < 2])
    return path


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory: pytest.TempPathFactory, tiny_npz: Path, tiny_external: Path) -> Path:
    """A workspace with a prepared set of 90 images and the external set `other`. Tests that write into it copy it
    first."""
    from data_prep.prepare import prepare
    from data_prep.settings import PrepareSettings

    folder = tmp_path_factory.mktemp("workspace")
    settings = PrepareSettings(str(tiny_npz), levels=("low",), external=(f"other={tiny_external}",))
    prepare(settings, folder / "prepared")
    return folder
