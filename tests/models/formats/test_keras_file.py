"""Several networks, and several looks at an image, in one exported model of stock layers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from models.backbones.registry import backbone_named
from models.formats.keras_file import Member, save_model
from models.networks.classifier import ClassifierSettings, make_classifier

SHAPE = (32, 32, 3)


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    """Two trained networks, as far as an export can tell."""
    settings = ClassifierSettings(backbone_named("small_cnn"), "none", SHAPE, 3)
    found = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        weights = tmp_path / f"{seed}.weights.h5"
        make_classifier(settings, 0.1).joined.save_weights(weights)
        found.append(Member(settings, 0.1, weights))
    return found


def answers(members: list[Member], path: Path, images: np.ndarray, orientations: bool = False) -> np.ndarray:
    save_model(members, path, orientations)
    result: np.ndarray = keras.saving.load_model(path).predict(images, verbose=0)
    return result


def test_two_networks_give_their_mean_probabilities(members: list[Member], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)
    single = [answers([member], tmp_path / f"{n}.keras", images) for n, member in enumerate(members)]
    both = answers(members, tmp_path / "both.keras", images)
    np.testing.assert_allclose(both, np.mean(single, axis=0), atol=1e-6)
    assert np.abs(single[0] - single[1]).max() > 1e-3


def test_a_turned_model_gives_one_answer_however_an_image_is_turned(members: list[Member], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    turned = np.stack([np.rot90(flipped, turns) for flipped in (image, image[:, ::-1]) for turns in range(4)])
    plain = answers(members[:1], tmp_path / "plain.keras", turned)
    found = answers(members[:1], tmp_path / "turned.keras", turned, orientations=True)
    np.testing.assert_allclose(found, np.repeat(plain.mean(axis=0, keepdims=True), 8, axis=0), atol=1e-6)
    assert np.ptp(plain, axis=0).max() > 1e-4
