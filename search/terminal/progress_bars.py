"""Progress bars, with rates, of `prepare`, `check` and other long work."""

from __future__ import annotations

from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from search.terminal.output import console


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "", style="progress.data.speed")


class Stages:
    """Progress of data_prep as one bar per stage on standard error, or one line per stage if that is no terminal."""

    def __init__(self) -> None:
        columns = (
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._bars = Progress(*columns, console=console(stderr=True), expand=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Stages:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, title: str, total: int, unit: str = "images") -> None:
        """Begin a stage of `total` units of work."""
        self._task = self._bars.add_task(title, total=total, unit=unit)

    def advance(self, count: int) -> None:
        """Add `count` finished units to the current stage."""
        if self._task is not None:
            self._bars.advance(self._task, count)
