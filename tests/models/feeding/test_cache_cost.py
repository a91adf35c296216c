"""What frozen layers give is kept where reading it is quicker than computing it, and nowhere else."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_images import CLASSES

from data_prep.storage.reader import PreparedSet
from models.backbones.registry import backbone_named
from models.feeding import cache_cost
from models.feeding.cache_cost import CutCost, Keeping, cut_costs, feature_values, least_paying
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Network
from search.engine import keras_trainer
from search.engine.job import NetworkSource, OpenChoices, TrainingJob
from studies.settings import StudySettings

READ_MS = 0.1


@pytest.mark.parametrize(
    ("compute_ms", "kept_from"),
    [
        ({0.25: 0.2, 0.5: 0.3, 1.0: 0.4}, 0.0),  # also at cuts that were too large to be timed
        ({0.25: 0.01, 0.5: 0.3, 1.0: 0.4}, 0.5),
        ({0.25: 0.2, 0.5: 0.01, 1.0: 0.4}, 1.0),  # one threshold: what lies beyond it pays as a whole
        ({0.25: 0.01, 0.5: 0.02, 1.0: 0.03}, None),
        ({0.5: READ_MS}, None),
        ({}, 0.0),
    ],
)
def test_it_is_kept_from_the_cut_on_from_which_it_pays(compute_ms: dict[float, float], kept_from: float | None) -> None:
    assert least_paying([CutCost(fraction, time_ms, READ_MS) for fraction, time_ms in compute_ms.items()]) == kept_from


@pytest.fixture(scope="module")
def network(own_weights: Path) -> Network:
    return Network(ClassifierSettings(backbone_named("small_cnn"), str(own_weights), (32, 32, 3), CLASSES))


KEEPING = Keeping("float16", most_bytes=10**9, stored_images=50, from_disk=False)


@pytest.mark.parametrize("from_disk", [False, True])
def test_each_cut_is_timed_once_and_nothing_is_left(
    from_disk: bool, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_cost, "FILE_BYTES", 2**16)
    rows = cut_costs(network, [1.0, 0.5, 0.0, 0.51], 4, replace(KEEPING, from_disk=from_disk), tmp_path)
    assert [row.frozen_fraction for row in rows] == [0.5, 1.0]
    assert all(row.compute_ms > 0 and row.read_ms > 0 for row in rows)
    assert not list(tmp_path.iterdir())


def test_a_cut_that_is_too_large_to_be_kept_is_not_timed(network: Network, tmp_path: Path) -> None:
    large, small = feature_values(network, [0.5, 1.0])
    assert large > small
    tight = replace(KEEPING, most_bytes=2 * KEEPING.stored_images * small)
    assert [row.frozen_fraction for row in cut_costs(network, [0.5, 1.0], 4, tight, tmp_path)] == [1.0]


def test_a_cut_that_cannot_be_timed_is_left_out(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut_costs(network, [0.5], 4, KEEPING, tmp_path / "absent") == []
    assert "50% frozen is left out: FileNotFoundError" in capsys.readouterr().out


def test_features_are_counted_once_a_cut(network: Network) -> None:
    whole = network.classifier.network.output_shape[-1]
    half = network.part(0.5, on_features=True).prefix
    assert half is not None
    _, height, width, channels = half.output_shape
    assert feature_values(network, [0.0, 0.5, 0.51, 1.0]) == [height * width * channels, whole]


@pytest.fixture
def asked(tiny_workspace: Path, own_weights: Path, tmp_path: Path) -> OpenChoices:
    """Features of so many images as memory holds."""
    return OpenChoices(
        source=NetworkSource(str(tiny_workspace / "prepared"), "small_cnn", str(own_weights)),
        resolution=0,
        batch_size=4,
        precisions=("float32",),
        xla=(False,),
        steps=100,
        frozen_fractions=(0.5, 1.0),
        prefix_cache="float32",
        cache_bytes=10**18,
        scratch=str(tmp_path),
        stored_images=1000,
        on_cpu=False,
    )


def test_a_cpu_keeps_what_memory_holds_and_measures_what_it_does_not(
    asked: OpenChoices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_cost, "FILE_BYTES", 2**16)
    seen: list[bool] = []

    def costs(*arguments: object) -> list[CutCost]:
        seen.append(arguments[3].from_disk)  # type: ignore[attr-defined]
        return cut_costs(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(keras_trainer, "cut_costs", costs)
    choose = keras_trainer.KerasTrainer().choose
    unmeasured = choose(asdict(asked))
    assert (unmeasured["keep_from"], unmeasured["cuts"], unmeasured["precision"]) == (0.0, [], "float32")
    large = replace(asked, stored_images=10**12)
    assert len(choose(asdict(large))["cuts"]) == 2
    assert len(choose(asdict(replace(asked, on_cpu=True)))["cuts"]) == 2
    assert choose(asdict(replace(large, cache_bytes=10**6)))["cuts"] == []  # no more than that is kept
    assert choose(asdict(replace(large, frozen_fractions=())))["cuts"] == []
    assert seen == [True, False]


def test_where_it_pays_nowhere_the_reply_says_so(asked: OpenChoices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_trainer, "cut_costs", lambda *arguments: [CutCost(1.0, 0.1, 0.2)])
    reply = keras_trainer.KerasTrainer().choose(asdict(replace(asked, on_cpu=True)))
    assert reply["keep_from"] is None


def test_the_job_says_from_where_on(tiny_workspace: Path, tmp_path: Path) -> None:
    settings = StudySettings("small_cnn", "", "none", {}, "macro_f1", "tpe", "none", 0, {}, prefix_cache="float32")
    job = TrainingJob(settings, NetworkSource("", "small_cnn", "none"), "", {}, 0)
    assert "prefix_cache_from" not in job.facts()  # trials of before go on
    later = replace(job, settings=replace(settings, prefix_cache_from=0.5, prefix_cache_gb=1.0))
    assert later.facts()["prefix_cache_from"] == 0.5
    found = keras_trainer.cache_settings(later, PreparedSet.open(tiny_workspace / "prepared"))
    assert found is not None and found.least_fraction == 0.5
