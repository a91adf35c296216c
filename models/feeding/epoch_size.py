"""How an epoch of training is divided into steps: the one place that reckons with batches. Imports no Keras."""

from __future__ import annotations

from dataclasses import dataclass


def nominal_batch_size(of_trial: float, of_study: int) -> int:
    """Return the images of a training step: the trial's own number, or the study's where the trial's is 0."""
    return int(of_trial) or of_study


@dataclass(frozen=True)
class EpochSize:
    """Views and steps of one epoch. All batches are of one size, since a network is traced once per shape."""

    views: int
    """Views drawn for an epoch."""
    batch_size: int
    """Views of one step, at most `views`."""

    @staticmethod
    def of(images: int, views_per_image: float, batch_size: int, divisor: int = 1) -> EpochSize:
        """Return the size of an epoch over so many images.

        Args:
            batch_size: As `nominal_batch_size` gives it.
            divisor: Parts into which each batch is cut, for want of memory.
        """
        views = images * int(views_per_image)
        return EpochSize(views, max(1, min(views, batch_size) // divisor))

    @property
    def steps(self) -> int:
        """Whole batches; the views left over at the end of an epoch (others each time) sit it out."""
        return max(1, self.views // self.batch_size)

    @property
    def trained_views(self) -> int:
        return self.steps * self.batch_size
