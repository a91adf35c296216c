"""Choose precision, XLA and prefix cache for a new study where the user left them open.

A training process decides once, when the study is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.feeding.epoch_size import EpochSize
from models.keras_config import backend_name
from models.networks.arithmetic import PRECISIONS
from search.engine.job import OpenChoices
from search.engine.worker import Worker
from search.planning.estimate import Images, frozen_fractions
from search.planning.open_study import network_source
from search.planning.planned_study import PlannedStudy
from search.planning.run_options import MEASURE, RunOptions
from search.workspace import Workspace
from studies.settings import PREFIX_CACHE_OFF, XLA_OFF, XLA_ON
from studies.trial_tables import cache_text, training_text

RANGE_PARTS = 20
"""Parts into which a continuous range of frozen fractions is divided, so that every cut in it is considered."""


def choose_arithmetic(
    worker: Worker, workspace: Workspace, planned: PlannedStudy, options: RunOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the settings that were left open, under the names of StudySettings.

    A CPU uses float32 without XLA, without measuring. MobileNetV2 0.35 at 96 pixels, in batches of 32 on two busy x86
    cores without bfloat16 units (2026-11-24), took 120 to 250 ms a step in float32, 200 to 590 ms in mixed_bfloat16,
    and 4,800 ms with XLA after 30 s of compiling. A CPU also keeps the output of frozen layers; it times that first
    only where the output does not fit into memory. `--precision measure` times all choices on a CPU as well.

    Args:
        say: Called with a line on each choice and the measurement behind it.

    Returns:
        Empty for a stored study, for a new version of one, and where nothing was left open.

    Raises:
        SearchError: The network cannot be trained.
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
        worker.stop()  # trials have no use for the graphs traced while measuring
    for text in (training_text, cache_text):
        if line := text(replace(planned.settings, **found)):
            say(line)
    return found


def _decides(planned: PlannedStudy) -> bool:
    """Whether settings may still be open: a stored study has fixed them, and a new version keeps its predecessor's."""
    return planned.is_new and planned.predecessor is None


@contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    """Yield a folder on the disk of the feature cache. If a kill leaves it behind, deleting the cache removes it."""
    cache = workspace.features.parent.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="measuring-", dir=cache, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
    with suppress(OSError):  # raised if the cache is not empty
        cache.rmdir()


def _open(workspace: Workspace, planned: PlannedStudy, options: RunOptions) -> OpenChoices:
    """Return a new study's open settings, with all that a worker needs to measure them."""
    settings, images = planned.settings, Images.of(PreparedSet.open(workspace.prepared))
    epoch = EpochSize.of(images.train, 1, settings.recipe["batch_size"])
    xla_is_open = options.is_open("xla") and backend_name() == "tensorflow"
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
    """Return the planned study with the chosen settings, unless another run has made the study meanwhile."""
    return replace(planned, settings=replace(planned.settings, **choice)) if _decides(planned) else planned
