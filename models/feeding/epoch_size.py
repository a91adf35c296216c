"""Division of a training epoch into steps. No other module divides images into batches. Imports no Keras."""

from __future__ import annotations

from dataclasses import dataclass


def nominal_batch_size(of_trial: float, of_study: int) -> int:
    """Return the images per training step: the trial's own batch size, or the study's when the trial's is 0."""
    return int(of_trial) or of_study


@dataclass(frozen=True)
class EpochSize:
    """Number of views and steps in one epoch. All batches have the same size: a network is traced once per shape."""

    views: int
    """Views drawn for an epoch."""
    batch_size: int
    """Views per step, at most `views`."""

    @staticmethod
    def of(images: int, views_per_image: float, batch_size: int, divisor: int = 1) -> EpochSize:
        """Return the size of an epoch.

        Args:
            images: Number of training images.
            views_per_image: Views drawn of each image in an epoch.
            batch_size: Images per step, from `nominal_batch_size`.
            divisor: Parts into which each batch is cut when memory is short.
        """
        views = images * int(views_per_image)
        return EpochSize(views, max(1, min(views, batch_size) // divisor))

    @property
    def steps(self) -> int:
        """Number of whole batches. Views left over at the end of an epoch are skipped; they differ each time."""
        return max(1, self.views // self.batch_size)

    @property
    def trained_views(self) -> int:
        """Views in whole batches."""
        return self.steps * self.batch_size
