"""`hpsearch run --dry-run`: train briefly, estimate what the search would take, and leave nothing behind."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from data_prep.storage.reader import PreparedSet
from models.training.recipe import HEAD, TUNING
from models.training.trial_rates import TrialRates
from search.engine.worker import Worker, WorkerDiedError
from search.planning.estimate import (
    DiskNeeds,
    Images,
    PlannedSearch,
    SpeedClass,
    kept_cuts,
    kept_fractions,
    quickest_and_slowest,
    traced_parts,
)
from search.planning.open_study import job_maker, network_source
from search.planning.planned_study import PlannedStudy
from search.terminal.durations import duration
from search.terminal.output import print_table
from search.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """Estimated time, disk space and memory of one study."""

    search: PlannedSearch
    room: dict[str, int]
    """Bytes on disk, by purpose."""
    memory_mb: int
    """Megabytes that the training process took."""


@dataclass(frozen=True)
class DryRun:
    """One study to be timed, with the options of `run` that decide what it takes.

    Attributes:
        trials: Number of trials still to come, including those trained again afterwards.
        keep: Number of trials whose weights are kept.
        fresh: Whether each trial gets a new training process.
    """

    workspace: Workspace
    planned: PlannedStudy
    trials: int
    keep: int
    fresh: bool

    def forecast(self, worker: Worker, scratch: Path) -> Forecast:
        """Train briefly in the worker, and return the study's estimated time, disk space and memory.

        Args:
            scratch: Folder where the timed trials write.

        Raises:
            SearchError: The network cannot be built or trained.
        """
        planned, images = self.planned, Images.of(PreparedSet.open(self.workspace.prepared))
        chosen = quickest_and_slowest(planned.definition)
        make = job_maker(self.workspace, planned)
        jobs = {name: replace(make(0, values, 0), folder=str(scratch)) for name, values in chosen.items()}
        source = network_source(self.workspace, planned)
        started = time.monotonic()
        for resolution in planned.resolutions:
            worker.describe(source, resolution)
        start_s = time.monotonic() - started
        request = {"jobs": {name: asdict(job) for name, job in jobs.items()}, "stored_images": images.stored}
        reply = worker.time(request | {"frozen_fractions": kept_fractions(planned)})
        rates = {name: TrialRates.from_dict(content) for name, content in reply["rates"].items()}
        epochs = {HEAD: planned.head_epochs, TUNING: int(planned.settings.recipe["epochs"])}
        kinds = [SpeedClass(name, rates[name], images.views(chosen[name]), epochs) for name in chosen]
        search = PlannedSearch(
            self.trials, images, kinds, traced_parts(planned), start_s, self.fresh, kept_cuts(planned)
        )
        return Forecast(search, self._room(reply, kinds).rows(images), reply["memory_mb"])

    def _room(self, reply: Mapping[str, Any], kinds: Sequence[SpeedClass]) -> DiskNeeds:
        settings = self.planned.settings
        return DiskNeeds(
            trials=self.trials,
            keep=self.keep,
            weights_bytes=kinds[0].rates.weights_bytes,
            state_bytes=max(kind.rates.state_bytes for kind in kinds),
            feature_values=reply["feature_values"],
            precision=settings.prefix_cache,
            most_feature_bytes=int(1e9 * settings.prefix_cache_gb),
        )


@contextmanager
def scratch_folder(workspace: Workspace) -> Iterator[Path]:
    """Yield a folder on the disk that trials will use, and remove it afterwards.

    The folder stays if the training process died: the log in it says why.
    """
    folder = Path(tempfile.mkdtemp(prefix=".dry-run-", dir=workspace.folder))
    died = False
    before = signal.signal(signal.SIGTERM, _interrupt)  # by default it would end the process before the cleanup below
    try:
        yield folder
    except WorkerDiedError:
        died = True
        raise
    finally:
        if not died:
            shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def show(found: Forecast, workspace: Workspace, say: Callable[[str], None]) -> float:
    """Print the forecast, and return the estimated seconds in all."""
    search = found.search
    rows = [
        {name.removesuffix("_s"): _brief(value) if name.endswith("_s") else value for name, value in kind.row().items()}
        for kind in search.kinds
    ]
    print_table(rows, tuple(rows[0]))
    about, least, most = map(duration, search.total_s())
    once = f"including {duration(search.once_s())} of one-time work"
    say(f"{search.trials} trials to come: about {about} ({least} to {most}), {once}")
    room = ", ".join(f"{what} {_size(size)}" for what, size in found.room.items())
    free = shutil.disk_usage(workspace.folder).free
    say(f"disk: at most {_size(sum(found.room.values()))} ({room}); {_size(free)} free")
    say(f"memory: the training process took {found.memory_mb:,} MB")
    return search.total_s()[0]


RULE = """Timed on some of the images, on this machine under its current load, for one trial at a time that trains to
its last epoch; pruning and early stopping shorten that. One-time work: starting, tracing, computing the output of
frozen layers. Nothing was stored."""


def _brief(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
