"""How a new study's trials compute, where it was left open: decided once, by a training process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_prep.prepared import PreparedSet
from models.arithmetic import PRECISIONS
from search.estimate import Images, frozen_fractions
from search.job import CACHE_OFF, DESCRIBED, Undecided
from search.run_options import AUTO, MEASURE, OPEN_PRECISIONS, XLA_OFF, XLA_ON, RunOptions, keras_backend
from search.sessions import Session, job_maker
from search.workers import Worker
from search.workspace import Workspace
from studies.tables import cache_text, training_text

RANGE_PARTS = 20
"""Into which a range of frozen fractions is divided, to come by every cut in it."""


def choose(
    worker: Worker, workspace: Workspace, session: Session, options: RunOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    """The settings that were left open, as StudySettings has them; none for a study that is there, or that follows one.

    A CPU has float32 without XLA, unmeasured. MobileNetV2 0.35 at 96 pixels, batches of 32, two busy x86 cores without
    bfloat16 units (2026-11-24), ms a step: float32 120 to 250, mixed_bfloat16 200 to 590; with XLA 4,800, after 30 s
    of compiling. It keeps what frozen layers give, unmeasured where memory holds it. `--precision measure` times
    another network or machine.

    SearchError when the network cannot be trained.
    """
    if not _decides(session):
        return {}
    asked = _open(workspace, session, options)
    if len(asked.precisions) * len(asked.xla) == 1 and not asked.frozen_fractions:
        return {}
    with _scratch(workspace) as folder:
        reply = worker.choose(asdict(replace(asked, scratch=str(folder))))
    measured = {"device": reply["device"], "steps": reply["steps"], "cuts": reply["cuts"]}
    found = {"precision": reply["precision"], "xla": XLA_ON if reply["xla"] else XLA_OFF, "measured": measured}
    found |= {"prefix_cache": CACHE_OFF} if reply["keep_from"] is None else {"prefix_cache_from": reply["keep_from"]}
    if reply["steps"] or reply["cuts"]:
        worker.stop()  # what the others traced is of no use to trials
    for text in (training_text, cache_text):
        if line := text(replace(session.settings, **found)):
            say(line)
    return found


def _decides(session: Session) -> bool:
    """A study that is there is decided, and one that takes over trials keeps what they were trained by."""
    return session.is_new and session.predecessor is None


@contextmanager
def _scratch(workspace: Workspace) -> Iterator[Path]:
    """A folder where features would be kept; one that is left by a kill may be removed with all of the cache."""
    cache = workspace.features.parent.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="measuring-", dir=cache, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
    with suppress(OSError):  # there may be something kept
        cache.rmdir()


def _open(workspace: Workspace, session: Session, options: RunOptions) -> Undecided:
    """What is left open of the settings of a new study."""
    settings, images = session.settings, Images.of(PreparedSet.open(workspace.prepared))
    job = job_maker(workspace, session)(0, {}, 0)
    batch_size = settings.recipe["batch_size"]
    xla_is_open = options.xla == AUTO and keras_backend() == "tensorflow"
    cache_is_open = options.prefix_cache == AUTO and settings.prefix_cache != CACHE_OFF
    return Undecided(
        **{key: getattr(job, key) for key in DESCRIBED},
        resolution=max(session.resolutions),
        batch_size=batch_size,
        precisions=PRECISIONS if options.precision in OPEN_PRECISIONS else (options.precision,),
        xla=(False, True) if xla_is_open else (settings.xla == XLA_ON,),
        steps=session.most_epochs * ceil(images.train / batch_size),
        frozen_fractions=tuple(frozen_fractions(session, RANGE_PARTS)) if cache_is_open else (),
        prefix_cache=settings.prefix_cache,
        cache_bytes=int(1e9 * settings.prefix_cache_gb),
        scratch="",
        stored_images=images.stored,
        on_cpu=options.precision == MEASURE,
    )


def with_choice(session: Session, choice: dict[str, Any]) -> Session:
    """The session with what was chosen, unless another run has made the study meanwhile."""
    return replace(session, settings=replace(session.settings, **choice)) if _decides(session) else session
