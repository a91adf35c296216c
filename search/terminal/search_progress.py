"""Progress of a search: live bars on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from search.engine.loop import Observer
from search.terminal.durations import duration
from search.terminal.output import counted, short
from studies.records import TrialRecord, best_record
from studies.settings import StudySettings


@contextmanager
def observing(
    console: Console,
    settings: StudySettings,
    counts: tuple[int, int],
    best: TrialRecord | None,
    searched: Collection[str],
) -> Iterator[Observer]:
    """Yield the observer of one study that suits the console.

    Args:
        console: Console to print on.
        settings: Settings of the study.
        counts: Number of trials in total, and largest number of epochs of a trial.
        best: The study's best trial so far.
        searched: Hyperparameters that differ from trial to trial; only these are shown.
    """
    trials, epochs = counts
    lines = Lines(console, settings, trials, best, searched)
    if not console.is_terminal:
        yield lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield Bars(lines, bars, epochs)


class Lines:
    """Observer that prints one line per finished trial, with counts, the best trial so far and the time left."""

    def __init__(
        self,
        console: Console,
        settings: StudySettings,
        trials: int,
        best: TrialRecord | None,
        searched: Collection[str],
    ) -> None:
        self.console, self.trials, self.best = console, trials, best
        self.backbone = settings.backbone
        self.objective = settings.objective.replace("macro_f1", "macro-F1").replace("_", " ")
        self.searched = searched
        self.started, self.done_before = time.monotonic(), -1

    def trial_started(self, number: int, hyperparameters: dict[str, Any], done: int) -> None:
        self.done_before = done if self.done_before < 0 else self.done_before

    def epoch(self, number: int, figures: dict[str, Any]) -> None:
        """Print nothing: a line per epoch would flood a log."""

    def trial_finished(self, record: TrialRecord, done: int) -> None:
        self.best = best_record([record] if self.best is None else [self.best, record])
        self.say(f"{self.backbone} {done}/{self.trials}  {one_line(record, self.searched)}  {self.summary(done)}")

    def summary(self, done: int) -> str:
        best = (
            f"best {self.objective} {self.best.value:.4f} (trial {self.best.number})"
            if self.best
            else "no complete trial yet"
        )
        return f"{best}, {self.time_left(done)}"

    def time_left(self, done: int) -> str:
        """Return in words the time left, by the trials that all runs finished meanwhile, or the time taken."""
        finished = done - self.done_before
        if finished <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self.started) / finished * (self.trials - done)
        return (
            f"about {duration(seconds)} left"
            if done < self.trials
            else f"took {duration(time.monotonic() - self.started)}"
        )

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """Observer that shows Lines, and below them a bar for the trials and one for the epochs of the running trial."""

    def __init__(self, lines: Lines, bars: Progress, epochs: int) -> None:
        self.lines, self.bars = lines, bars
        self.all = bars.add_task(f"{lines.backbone} trials", total=lines.trials, note="")
        self.running = bars.add_task("", total=epochs, note="")
        self.best_value = 0.0

    def trial_started(self, number: int, hyperparameters: dict[str, Any], done: int) -> None:
        self.lines.trial_started(number, hyperparameters, done)
        self.best_value = 0.0
        note = chosen(hyperparameters, self.lines.searched)
        self.bars.reset(self.running, description=f"trial {number} epochs", note=note)
        self.bars.update(self.all, completed=done, note=self.lines.summary(done))

    def epoch(self, number: int, figures: dict[str, Any]) -> None:
        self.best_value = max(self.best_value, figures["value"])
        speed = f"{figures['images_per_second']:.0f} images/s"
        note = f"{figures['phase']}: current {figures['value']:.4f}, best {self.best_value:.4f}, {speed}"
        self.bars.update(self.running, completed=figures["step"] + 1, note=note)

    def trial_finished(self, record: TrialRecord, done: int) -> None:
        self.lines.trial_finished(record, done)
        self.bars.update(self.all, completed=done, note=self.lines.summary(done))

    def say(self, line: str) -> None:
        self.lines.say(line)


def chosen(hyperparameters: Mapping[str, Any], searched: Collection[str]) -> str:
    """Return the searched hyperparameters as NAME=VALUE, in their order."""
    return " ".join(f"{key}={short(value)}" for key, value in hyperparameters.items() if key in searched)


def one_line(record: TrialRecord, searched: Collection[str]) -> str:
    """Return a finished trial in one line."""
    state = record.failure["kind"] if record.failure else record.state
    value = f" {record.value:.4f}" if record.value is not None else ""
    took = f"{counted(len(record.epochs), 'epoch')} in {duration(record.seconds)}"
    return f"trial {record.number} {state}{value}, {took}: {chosen(record.hyperparameters, searched)}"
