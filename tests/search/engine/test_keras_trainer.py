"""What a training process decides about a new study, and what it makes of a job."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data_prep.storage.reader import PreparedSet
from models.feeding import cache_cost
from models.feeding.cache_cost import CutCost, cut_costs
from search.engine import keras_trainer
from search.engine.job import NetworkSource, OpenChoices, TrainingJob
from studies.settings import StudySettings


@pytest.fixture
def asked(tiny_workspace: Path, own_weights: Path, tmp_path: Path) -> OpenChoices:
    """Return the number of images whose features fit in memory."""
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
