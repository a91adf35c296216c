"""Short trials tell rates of the phases there are, with and without kept features, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import UNTRAINED, backbone_named
from models.feeding.batches import TrainingViews
from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Networks
from models.training.plan import Plan
from models.training.recipe import Recipe
from models.training.trial_timing import Bench, timed_trial

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(100)
    held_out, held_out_labels = tiny_images(30, seed=1)
    views = TrainingViews(images, [images[:, None]], labels, names=("low",))
    families = {"noise": np.ones((30, 1), bool)}
    return TrainingData(views, (1.0,) * CLASSES, held_out, held_out_labels, held_out[:, None], families)


@pytest.mark.parametrize("pretrained", [True, False])
def test_rates_of_real_trials(
    pretrained: bool, data: TrainingData, own_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.trial_timing.MEASURED_S", 0.05)
    weights = str(own_weights) if pretrained else UNTRAINED
    settings = ClassifierSettings(backbone_named("small_cnn"), weights, SHAPE, CLASSES)
    plan = Plan(settings, Hyperparameters(frozen_fraction=0.5), Recipe(3, 12, 16), "macro_f1", 0)
    cache = CacheSettings(tmp_path / "features", "float32", 10**9, "origin") if pretrained else None
    rates = timed_trial(plan, data, Bench(Networks(), tmp_path, cache, 260))
    assert [phase.name for phase in rates.phases] == (["head", "fine-tuning"] if pretrained else ["fine-tuning"])
    assert all(min(phase.trained_view_s, phase.scored_view_s, phase.rest_s) > 0 for phase in rates.phases)
    assert (rates.frozen_fraction > 0) == pretrained
    assert rates.state_bytes > 2 * rates.weights_bytes  # the weights of now, the best ones, the optimizer's slots
    assert rates.weights_bytes > 4 * 98_000
    assert rates.trace_s > 0
    assert list(tmp_path.iterdir()) == []
