"""How a new study's trials compute, where it was left open: decided once, by a training process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.feeding.epoch_size import EpochSize
from models.networks.arithmetic import PRECISIONS
from search.engine.job import OpenChoices
from search.engine.worker import Worker
from search.planning.estimate import Images, frozen_fractions
from search.planning.open_study import network_source
from search.planning.planned_study import PlannedStudy
from search.planning.run_options import MEASURE, RunOptions, keras_backend
from search.workspace import Workspace
from studies.settings import PREFIX_CACHE_OFF, XLA_OFF, XLA_ON
from studies.trial_tables import cache_text, training_text

RANGE_PARTS = 20
"""Into which a range of frozen fractions is divided, to come by every cut in it."""


def choose_arithmetic(
    worker: Worker, workspace: Workspace, planned: PlannedStudy, options: RunOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    """The settings that were left open, as StudySettings has them; none for a study that is there, or that follows one.

    A CPU has float32 without XLA, unmeasured. MobileNetV2 0.35 at 96 pixels, batches of 32, two busy x86 cores without
    bfloat16 units (2026-11-24), ms a step: float32 120 to 250, mixed_bfloat16 200 to 590; with XLA 4,800, after 30 s
    of compiling. It keeps what frozen layers give, unmeasured where memory holds it. `--precision measure` times
    another network or machine.

    SearchError when the network cannot be trained.
    """
    if not _decides(planned):
        return {}
    asked = _open(workspace, planned, options)
    if len(asked.precisions) * len(asked.xla) == 1 and not asked.frozen_fractions:
        return {}
    with _scratch(workspace) as folder:
        reply = worker.choose(replace(asked, scratch=str(folder)))
    measured = {"device": reply["device"], "steps": reply["steps"], "cuts": reply["cuts"]}
    found = {"precision": reply["precision"], "xla": XLA_ON if reply["xla"] else XLA_OFF, "measured": measured}
    found |= (
        {"prefix_cache": PREFIX_CACHE_OFF} if reply["keep_from"] is None else {"prefix_cache_from": reply["keep_from"]}
    )
    if reply["steps"] or reply["cuts"]:
        worker.stop()  # what the others traced is of no use to trials
    for text in (training_text, cache_text):
        if line := text(replace(planned.settings, **found)):
            say(line)
    return found


def _decides(planned: PlannedStudy) -> bool:
    """A study that is there is decided, and one that takes over trials keeps what they were trained by."""
    return planned.is_new and planned.predecessor is None


@contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    """A folder where features would be kept; one that is left by a kill may be removed with all of the cache."""
    cache = workspace.features.parent.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="measuring-", dir=cache, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
    with suppress(OSError):  # there may be something kept
        cache.rmdir()


def _open(workspace: Workspace, planned: PlannedStudy, options: RunOptions) -> OpenChoices:
    """What is left open of the settings of a new study."""
    settings, images = planned.settings, Images.of(PreparedSet.open(workspace.prepared))
    epoch = EpochSize.of(images.train, 1, settings.recipe["batch_size"])
    xla_is_open = options.is_open("xla") and keras_backend() == "tensorflow"
    cache_is_open = options.is_open("prefix_cache") and settings.prefix_cache != PREFIX_CACHE_OFF
    return OpenChoices(
        source=network_source(workspace, planned),
        resolution=max(planned.resolutions),
        batch_size=settings.recipe["batch_size"],
        precisions=PRECISIONS if options.is_open("precision") else (options["precision"],),
        xla=(False, True) if xla_is_open else (settings.xla == XLA_ON,),
        steps=planned.most_epochs * epoch.steps,
        frozen_fractions=tuple(frozen_fractions(planned, RANGE_PARTS)) if cache_is_open else (),
        prefix_cache=settings.prefix_cache,
        cache_bytes=int(1e9 * settings.prefix_cache_gb),
        scratch="",
        stored_images=images.stored,
        on_cpu=options["precision"] == MEASURE,
    )


def with_choice(planned: PlannedStudy, choice: dict[str, Any]) -> PlannedStudy:
    """The planned study with what was chosen, unless another run has made the study meanwhile."""
    return replace(planned, settings=replace(planned.settings, **choice)) if _decides(planned) else planned
