"""Precision and XLA of a new study, where they were left open: decided once, by a training process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any

from data_prep.prepared import PreparedSet
from models.arithmetic import PRECISIONS
from search.job import DESCRIBED
from search.run_options import AUTO, MEASURE, OPEN_PRECISIONS, XLA_OFF, XLA_ON, RunOptions, keras_backend
from search.sessions import Session, job_maker
from search.workers import Worker
from search.workspace import Workspace
from studies.tables import training_text


def choose(
    worker: Worker, workspace: Workspace, session: Session, options: RunOptions, say: Callable[[str], None]
) -> dict[str, Any]:
    """The settings that were left open, as StudySettings has them; none for a study that is there, or that follows one.

    A CPU has float32 without XLA, unmeasured. MobileNetV2 0.35 at 96 pixels, batches of 32, two busy x86 cores without
    bfloat16 units (2026-11-24), ms a step: float32 120 to 250, mixed_bfloat16 200 to 590; with XLA 4,800, after 30 s
    of compiling. `--precision measure` times another network or machine.

    SearchError when the network cannot be trained.
    """
    precisions = PRECISIONS if options.precision in OPEN_PRECISIONS else (options.precision,)
    xla_is_open = options.xla == AUTO and keras_backend() == "tensorflow"
    xla = (False, True) if xla_is_open else (session.settings.xla == XLA_ON,)
    if not session.is_new or session.predecessor is not None or len(precisions) * len(xla) == 1:
        return {}
    job, batch_size = job_maker(workspace, session)(0, {}, 0), session.settings.recipe["batch_size"]
    images = len(PreparedSet.open(workspace.prepared).labels("train"))
    reply = worker.choose(
        {key: getattr(job, key) for key in DESCRIBED}
        | {"resolution": max(session.resolutions), "batch_size": batch_size, "precisions": precisions, "xla": xla}
        | {"steps": session.most_epochs * ceil(images / batch_size), "on_cpu": options.precision == MEASURE}
    )
    measured = {"device": reply["device"], "steps": reply["steps"]}
    found = {"precision": reply["precision"], "xla": XLA_ON if reply["xla"] else XLA_OFF, "measured": measured}
    if reply["steps"]:
        worker.stop()  # what the others traced is of no use to trials
        say(training_text(replace(session.settings, **found)))
    return found


def with_choice(session: Session, choice: dict[str, Any]) -> Session:
    """The session of a study that is still new, with what was chosen; another run may have made it meanwhile."""
    return replace(session, settings=replace(session.settings, **choice)) if session.is_new else session
