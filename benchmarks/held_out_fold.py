"""Set aside a held-out fold for a benchmark, before anything is prepared, searched or chosen.

    python benchmarks/held_out_fold.py WORKSPACE OUT.npz FOLD.npz [--keep-test]

The fold is the test images of WORKSPACE's prepared set. They go to FOLD.npz; the training and validation images go to
OUT.npz, a source for `hpsearch prepare`. No group of copies or near copies is in both files, because `prepare` splits
by group. You no longer need WORKSPACE after that.

With --keep-test, WORKSPACE stays in use and its test images unread: the fold is the validation images, and OUT.npz gets
the training images alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from data_prep.storage.reader import PreparedSet


def write_splits(prepared: PreparedSet, splits: tuple[str, ...], path: Path) -> int:
    """Write the original images of some splits to an .npz file.

    The file has `images`, uint8 (n, h, w, 3), and `labels`, int64 (n,).

    Returns:
        The number n of images.
    """
    images = np.concatenate([prepared.images(split) for split in splits])
    labels = np.concatenate([prepared.labels(split) for split in splits])
    # Given a name without .npz, NumPy would append it; to an open file it writes as it is.
    with path.open("wb") as file:
        np.savez(file, images=images, labels=labels)
    return len(labels)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("fold", type=Path)
    parser.add_argument("--keep-test", action="store_true", help="use the validation images as the fold")
    options = parser.parse_args(arguments)
    prepared = PreparedSet.open(options.workspace / "prepared")
    rest, fold = (("train",), ("validation",)) if options.keep_test else (("train", "validation"), ("test",))
    for splits, path in ((rest, options.out), (fold, options.fold)):
        count = write_splits(prepared, splits, path)
        print(f"{path}: {count:,} images ({' + '.join(splits)}), classes by number: {', '.join(prepared.class_names)}")


if __name__ == "__main__":
    main()
