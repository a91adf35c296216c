"""The bank: augmented views of the training images, in numbered generations that are never changed once written."""

from pathlib import Path

import numpy as np

from data_prep.augmentation import levels
from data_prep.progress import Progress
from data_prep.settings import PrepareSettings
from data_prep.storage import writer
from data_prep.storage.reader import MANIFEST, bank_folder


def write_generation(
    folder: Path, settings: PrepareSettings, generation: int, fingerprint: str, progress: Progress
) -> None:
    """Draw one generation of views from (seed, level, generation), and write it with its manifest.

    Args:
        folder: folder of the prepared set; its `train_images.npy` is read.
        settings: `levels`, `copies` and `seed` are used.
        generation: number of the generation.
        fingerprint: fingerprint of the prepared set.
        progress: receiver of progress reports, in views.
    """
    images = np.load(folder / "train_images.npy", mmap_mode="r", allow_pickle=False)
    place = folder / bank_folder(generation)
    copies = settings.level_copies
    place.mkdir(parents=True, exist_ok=True)
    views = {
        level: writer.new_array(place / f"{level}.npy", (len(images), count, *images.shape[1:]))
        for level, count in copies.items()
    }
    if views:
        progress.start(f"augmenting, levels {', '.join(copies)}", len(images) * sum(copies.values()))
        levels.augment(images, views, (settings.seed, generation), progress)
    for array in views.values():
        array.flush()  # type: ignore[attr-defined]
    names = [f"{level}.npy" for level in copies]
    manifest = {
        "fingerprint": fingerprint,
        "generation": generation,
        "seed": settings.seed,
        "files": writer.checksums(place, names),
    }
    writer.write_json(place / MANIFEST, manifest)
