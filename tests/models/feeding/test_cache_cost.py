"""What frozen layers give is kept where reading it is quicker than computing it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_images import CLASSES

from models.backbones.registry import backbone_named
from models.feeding import cache_cost
from models.feeding.cache_cost import CutCost, Keeping, cut_costs, feature_values, least_paying
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Network

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
    assert "50% frozen layers cannot be timed and are skipped: FileNotFoundError" in capsys.readouterr().out


def test_features_are_counted_once_a_cut(network: Network) -> None:
    whole = network.classifier.network.output_shape[-1]
    half = network.part(0.5, on_features=True).prefix
    assert half is not None
    _, height, width, channels = half.output_shape
    assert feature_values(network, [0.0, 0.5, 0.51, 1.0]) == [height * width * channels, whole]
