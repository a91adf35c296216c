"""How long work reports where it stands, without knowing who is watching."""

from typing import Protocol


class Progress(Protocol):
    """What a watcher of a long task offers."""

    def start(self, title: str, total: int, unit: str = "images") -> None:
        """A stage called `title` begins, with `total` images (or what `unit` says) to do; it ends the stage before."""

    def advance(self, count: int) -> None:
        """`count` more images of the current stage are done."""


class Silent:
    """Nobody is watching."""

    def start(self, title: str, total: int, unit: str = "images") -> None:
        """Ignored."""

    def advance(self, count: int) -> None:
        """Ignored."""
