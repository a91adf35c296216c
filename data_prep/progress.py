"""Progress reports of long tasks, independent of how they are displayed."""

from typing import Protocol


class Progress(Protocol):
    """Receiver of progress reports from a long task."""

    def start(self, title: str, total: int, unit: str = "images") -> None:
        """Begin a stage, which ends the stage before it.

        Args:
            title: what the stage does, for display.
            total: number of units to process.
            unit: what is counted, in the plural.
        """

    def advance(self, count: int) -> None:
        """Report that `count` more units of the current stage are done."""


class Silent:
    """Receiver that discards all progress reports."""

    def start(self, title: str, total: int, unit: str = "images") -> None:
        """Do nothing."""

    def advance(self, count: int) -> None:
        """Do nothing."""
