"""Sets a benchmark's own held-out fold aside, before anything is prepared, searched or chosen.

    python benchmarks/held_out_fold.py WORKSPACE OUT.npz FOLD.npz [--keep-test]

From the prepared set of WORKSPACE: OUT.npz gets its training and validation images, as a source for `hpsearch prepare`,
FOLD.npz its test images. No group of copies or near copies is on both sides, since `prepare` splits by group; WORKSPACE
has served its purpose then. With --keep-test its test images stay unread, for a workspace that goes on being used:
OUT.npz gets the training images alone, and the validation images are the fold.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data_prep.storage.reader import PreparedSet


def write_splits(prepared: PreparedSet, splits: tuple[str, ...], path: Path) -> int:
    """Writes the originals of these splits as `images` (n, h, w, 3) uint8 and `labels` (n,) int64: their number."""
    images = np.concatenate([prepared.images(split) for split in splits])
    labels = np.concatenate([prepared.labels(split) for split in splits])
    # Through an open file: given a name, NumPy would add its own ending to one without.
    with path.open("wb") as file:
        np.savez(file, images=images, labels=labels)
    return len(labels)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("fold", type=Path)
    parser.add_argument("--keep-test", action="store_true")
    options = parser.parse_args(arguments)
    prepared = PreparedSet.open(options.workspace / "prepared")
    rest, fold = (("train",), ("validation",)) if options.keep_test else (("train", "validation"), ("test",))
    for splits, path in ((rest, options.out), (fold, options.fold)):
        count = write_splits(prepared, splits, path)
        print(f"{path}: {count:,} images ({' + '.join(splits)}), classes by number: {', '.join(prepared.class_names)}")


if __name__ == "__main__":
    main()
