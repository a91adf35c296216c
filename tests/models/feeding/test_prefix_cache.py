"""What frozen layers make of an image is kept, and nothing comes out differently for it."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.backbones.registry import OWN, UNTRAINED, backbone_named
from models.backbones.user_networks import ready_backbone
from models.backbones.user_rows import asked_backbone
from models.errors import ModelError
from models.feeding import prefix_cache
from models.feeding.batches import TrainingViews
from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Networks
from models.training.plan import EpochFigures, Plan, TrialOutcome
from models.training.recipe import Recipe
from models.training.trial import TrainingEnvironment, run_trial

SHAPE = (32, 32, 3)
FROZEN = Hyperparameters(frozen_fraction=0.5, learning_rate=1e-3, augmentation="low+hard", optimizer="adam")


@pytest.fixture(scope="module")
def data() -> TrainingData:
    images, labels = tiny_images(40)
    validation, validation_labels = tiny_images(18, seed=1)
    banks = [np.stack([255 - images, images[:, ::-1]], axis=1), images[:, None, :, ::-1]]
    return TrainingData(
        TrainingViews(images, banks, labels, names=("low", "hard")),
        (1.0,) * CLASSES,
        validation,
        validation_labels,
        corrupted_images=np.stack([255 - validation, validation[:, ::-1]], axis=1),
    )


@pytest.fixture(scope="module")
def plan(own_weights: Path) -> Plan:
    settings = ClassifierSettings(backbone_named("small_cnn"), str(own_weights), SHAPE, CLASSES)
    return Plan(settings, FROZEN, Recipe(1, 3, 8), "mean_macro_f1", seed=2)


@pytest.fixture(scope="module")
def kept() -> Networks:
    return Networks()


@pytest.fixture
def settings(tmp_path: Path) -> CacheSettings:
    return CacheSettings(tmp_path / "features", "float32", 10**8, "these images")


def trained(
    plan: Plan, data: TrainingData, networks: Networks, cache: CacheSettings | None
) -> tuple[list[EpochFigures], TrialOutcome]:
    rows: list[EpochFigures] = []
    outcome = run_trial(
        plan, data, lambda figures: rows.extend(figures) or False, environment=TrainingEnvironment(networks, cache)
    )
    return rows, outcome


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_a_trial_on_kept_features_ends_as_one_without(
    precision: str, tolerance: float, plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    plain_rows, plain = trained(plan, data, kept, None)
    rows, outcome = trained(plan, data, kept, replace(settings, precision=precision))
    np.testing.assert_allclose(outcome.probabilities, plain.probabilities, atol=tolerance)
    assert plain.corrupted_probabilities is not None and outcome.corrupted_probabilities is not None
    np.testing.assert_allclose(outcome.corrupted_probabilities, plain.corrupted_probabilities, atol=tolerance)
    assert [row.training_loss for row in rows] == pytest.approx([row.training_loss for row in plain_rows], abs=0.01)
    assert plain.prefix_cache_share == 0
    assert 0 < outcome.prefix_cache_share < 1


def test_frozen_layers_that_draw_at_random_change_nothing_for_those_behind(
    data: TrainingData, settings: CacheSettings, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    x = image = keras.Input(SHAPE)
    for filters in (4, 8, 8, 8):
        x = keras.layers.Dropout(0.3)(keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")(x))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))).save(tmp_path / "own.keras")
    asked = asked_backbone(str(tmp_path / "own.keras"), None)
    own = ClassifierSettings(ready_backbone(asked.name, asked.own, str(tmp_path / "own.keras")), OWN, SHAPE, CLASSES)
    plan = Plan(own, replace(FROZEN, dropout=0.5), Recipe(1, 3, 8), "mean_macro_f1", seed=2)
    on_images, on_features = (trained(plan, data, Networks(), cache)[0] for cache in (None, settings))
    losses = [[row.training_loss for row in rows] for rows in (on_images, on_features)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_features_of_an_own_network_are_of_its_graph_too(
    data: TrainingData, settings: CacheSettings, tmp_path: Path
) -> None:
    """Files of one name with the same weights, made one after the other, so that Keras names their layers otherwise."""
    kept, weights = [], None
    for place, activation in enumerate(("relu", "relu", "tanh")):
        image = keras.Input(SHAPE)
        first = keras.layers.Conv2D(4, 3, 2, activation=activation)(image)
        network = keras.Model(image, keras.layers.Conv2D(8, 3, 2)(keras.layers.Conv2D(4, 3)(first)))
        weights = weights or network.get_weights()
        network.set_weights(weights)
        path = tmp_path / str(place) / "own.keras"
        path.parent.mkdir()
        network.save(path)
        asked = asked_backbone(str(path), None)
        own = ClassifierSettings(ready_backbone(asked.name, asked.own, str(path)), OWN, SHAPE, CLASSES)
        _, outcome = trained(Plan(own, FROZEN, Recipe(1, 1, 8), "mean_macro_f1", seed=2), data, Networks(), settings)
        kept.append((len(list(settings.folder.iterdir())), outcome.prefix_cache_share))
    assert [folders for folders, _ in kept] == [2, 2, 4]
    assert kept[0][1] < 1 == kept[1][1] and kept[2][1] < 1


MODULE = """
import keras
from scaling import Scaled
def net(weights=None, include_top=False, input_shape=None):
    image = keras.Input(input_shape)
    x = Scaled()(keras.layers.Conv2D(4, 3, kernel_initializer="ones")(image))
    return keras.Model(image, keras.layers.Conv2D(4, 3, kernel_initializer="ones")(x))
"""
LAYER = """
import keras
class Scaled(keras.layers.Layer):
    def call(self, x):
        return x * 2
"""


def test_features_of_a_function_are_of_its_code_and_what_it_imports_too(
    data: TrainingData, settings: CacheSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    kept = []
    versions = [(MODULE, LAYER), (MODULE, LAYER), (MODULE + "\n# changed", LAYER), (MODULE, LAYER.replace("2", "3"))]
    for module, layer in versions:
        Path("nets_of_mine.py").write_text(module, encoding="utf-8")
        Path("scaling.py").write_text(layer, encoding="utf-8")
        Path("unrelated.py").write_text(str(len(kept)), encoding="utf-8")
        for name in ("nets_of_mine", "scaling"):  # as a new process
            sys.modules.pop(name, None)
        own = ClassifierSettings(asked_backbone("nets_of_mine:net"), UNTRAINED, SHAPE, CLASSES)
        assert prefix_cache.cached_part(settings, Networks().built(own), 0.5, data)
        kept.append(len(list(settings.folder.iterdir())))
    assert kept == [1, 1, 2, 3]


def test_a_second_trial_and_process_find_what_the_first_computed(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = replace(plan, recipe=Recipe(2, 8, 8))
    _, first = trained(longer, data, kept, settings)
    _, second = trained(longer, data, kept, settings)
    assert second.prefix_cache_share == 1.0 > first.prefix_cache_share
    assert second.weights_sha256 == first.weights_sha256
    # A process that may not run the frozen layers at all gets by with the files.
    networks = Networks()
    monkeypatch.setattr(
        prefix_cache, "predict", lambda *arguments: pytest.fail("a feature was computed that had been kept")
    )
    assert trained(longer, data, networks, settings)[1].weights_sha256 == first.weights_sha256


@pytest.mark.parametrize(
    "changes", [{"flips": True}, {"masks": 0.5}, {"channel_shift": 0.1}, {"mixing": "mixup"}, {"frozen_fraction": 0.0}]
)
def test_what_changes_images_or_freezes_nothing_is_trained_on_images(
    changes: dict[str, object], plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    """The head phase alone is served: the same images are changed in the same way with the cache and without."""
    changed = replace(plan, hyperparameters=Hyperparameters.from_dict({**vars(FROZEN), **changes}))
    rows, outcome = trained(changed, data, kept, settings)
    assert outcome.prefix_cache_share < 0.25
    plain_rows, _ = trained(changed, data, kept, None)
    assert [row.training_loss for row in rows] == pytest.approx([row.training_loss for row in plain_rows], abs=1e-4)


def test_it_is_off_where_too_little_is_frozen_to_pay(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    """The head phase, behind all frozen layers, is served in any case."""
    outcomes = {}
    for least_fraction in (0.0, 0.5, 0.75):
        cache = replace(settings, folder=settings.folder / str(least_fraction), least_fraction=least_fraction)
        _, outcomes[least_fraction] = trained(plan, data, kept, cache)
    cuts = {least: len(list((settings.folder / str(least)).iterdir())) for least in outcomes}
    assert cuts == {0.0: 2, 0.5: 2, 0.75: 1}
    shares = {least: outcome.prefix_cache_share for least, outcome in outcomes.items()}
    assert shares[0.0] == shares[0.5] > shares[0.75]
    assert outcomes[0.0].probabilities == pytest.approx(outcomes[0.75].probabilities, abs=1e-5)


def test_too_little_room_turns_it_off_and_says_so(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    _, outcome = trained(plan, data, kept, replace(settings, most_bytes=1000))
    assert outcome.prefix_cache_share == 0
    assert "the output of the frozen layers is not cached" in capsys.readouterr().out
    assert not [path for path in settings.folder.rglob("*") if path.is_file()]


def test_a_file_that_another_process_is_making_stays_and_one_that_was_left_goes(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    (settings.folder / "other").mkdir(parents=True)
    making, left = (settings.folder / "other" / f".partial.{number}.original.float32" for number in (1, 2))
    for path in (making, left):
        path.write_bytes(bytes(1000))
    os.utime(left, (0, 0))
    trained(plan, data, kept, settings)
    size = sum(path.stat().st_size for path in settings.folder.rglob("*.float32")) - 2000
    trained(plan, data, kept, replace(settings, origin="other images", most_bytes=size + 1500))
    assert making.exists() and not left.exists()


def test_what_was_used_longest_ago_makes_room(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    trained(plan, data, kept, settings)
    size = sum(path.stat().st_size for path in settings.folder.rglob("*.float32"))
    tight = replace(settings, origin="other images", most_bytes=size + 1000)
    old = set(settings.folder.rglob("*.float32"))
    _, outcome = trained(plan, data, kept, tight)
    assert outcome.prefix_cache_share > 0
    assert sum(path.stat().st_size for path in settings.folder.rglob("*.float32")) <= tight.most_bytes
    assert old - set(settings.folder.rglob("*.float32"))


def test_a_value_that_a_precision_cannot_hold_is_an_error(
    plan: Plan, data: TrainingData, kept: Networks, settings: CacheSettings
) -> None:
    prefix = kept.built(plan.classifier).part(1.0, on_features=True).prefix
    path = settings.folder / "original.float16"
    path.parent.mkdir(parents=True)
    features = prefix_cache.Features(path, data.views.originals, prefix, "float16")
    with pytest.raises(ModelError, match="does not fit float16: use --prefix-cache float32 or off"):
        features.keep(np.arange(3), np.full((3, *prefix.output_shape[1:]), 1e6, "float32"))
