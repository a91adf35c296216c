"""How many versions of pictures are found, by kind, and how many other pictures are joined.

    python benchmarks/copies.py CELLS.npz [--count 200] [--among 1000] [--kinds KIND,...] [--masked]

CELLS.npz holds `images` and `labels`, as `hpsearch prepare` takes it; in the blood-cell challenge's set, the last 1,800
images are no cells (--skip-last). For each kind it makes versions of --count pictures and looks for them among --among
others. It prints the share that near_copies.py finds, the share of 40 that recheck.py finds, which `check` uses, and
the number of other pairs that were joined. --masked sets everything outside of a disc to black. Digits are
scikit-learn's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np

from data_prep.cleaning import hashing, near_copies, recheck

Kind = Callable[[np.ndarray, np.random.Generator], np.ndarray]
RECHECKED = 40


def _moved(image: np.ndarray, degrees: float = 0, shift: tuple[float, float] = (0, 0), shear: float = 0) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    matrix[0] += shear * np.array([0, 1, -height / 2])
    matrix[:, 2] += np.array(shift) * (width, height)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


def _recompressed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 90))])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR))


def _rescaled(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    factor = rng.uniform(0.5, 0.8)
    small = cv2.resize(image, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image * rng.uniform(0.6, 1.2) + rng.uniform(-15, 15), 0, 255).astype(np.uint8)


def _shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _moved(image, shift=(0.1 * float(rng.choice([-1, 1])), float(rng.uniform(-0.1, 0.1))))


def _cropped(image: np.ndarray, rng: np.random.Generator, corner: bool = False) -> np.ndarray:
    height, width = image.shape[:2]
    cut = max(2, round(rng.uniform(0.05, 0.1) * width))
    top, left = rng.choice([0, cut], 2) if corner else (cut // 2, cut // 2)
    return np.asarray(cv2.resize(image[top : top + height - cut, left : left + width - cut], (width, height)))


def _framed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    edge = max(1, round(0.05 * len(image)))
    framed = np.full_like(image, rng.choice([0, 255]))
    framed[edge:-edge, edge:-edge] = image[edge:-edge, edge:-edge]
    return framed


def _scale_bar(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    barred = image.copy()
    barred[int(0.9 * height) : int(0.9 * height) + max(1, height // 32), int(0.6 * width) : int(0.92 * width)] = (
        rng.choice([0, 255])
    )
    return barred


def _together(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shift = (float(rng.uniform(-0.1, 0.1)), float(rng.uniform(-0.1, 0.1)))
    made = _moved(image, float(rng.uniform(-10, 10)), shift, float(rng.uniform(-0.1, 0.1)))
    made = made[:: int(rng.choice([-1, 1])), :: int(rng.choice([-1, 1]))]
    return np.clip(made * rng.uniform(0.5, 1.1), 0, 255).astype(np.uint8)


KINDS: dict[str, Kind] = {
    "recompressed": _recompressed,
    "rescaled": _rescaled,
    "relit": _relit,
    "mirrored": lambda image, rng: image[:, ::-1],
    "turned by 90": lambda image, rng: np.rot90(image),
    "turned by 180": lambda image, rng: np.rot90(image, 2),
    "turned by 270": lambda image, rng: np.rot90(image, 3),
    "turned by 3 to 10": lambda image, rng: _moved(image, float(rng.choice([-1, 1]) * rng.uniform(3, 10))),
    "shifted by 10 %": _shifted,
    "cropped, centre": _cropped,
    "cropped, corner": lambda image, rng: _cropped(image, rng, corner=True),
    "sheared": lambda image, rng: _moved(image, shear=float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.15))),
    "framed": _framed,
    "scale bar": _scale_bar,
    "all together": _together,
}


def masked(images: np.ndarray) -> np.ndarray:
    """Return images with black outside of a disc, uint8 (n, h, w, 3)."""
    y, x = np.mgrid[: images.shape[1], : images.shape[2]]
    inside = np.hypot(y - images.shape[1] / 2, x - images.shape[2] / 2) < 0.38 * images.shape[1]
    return np.where(inside[None, :, :, None], images, 0).astype(np.uint8)


def measured(kind: str, images: np.ndarray, count: int) -> tuple[int, int, int]:
    """Return how many versions of the first images near_copies.py finds, recheck.py finds, and pairs joined wrongly."""
    rng = np.random.default_rng(7)
    made = np.stack([np.ascontiguousarray(KINDS[kind](image, rng)) for image in images[:count]])
    both = np.concatenate([images, made])
    pictures = near_copies.Pictures(both, hashing.phashes(both), np.arange(len(both)))
    pairs = {(link.first, link.second) for link in near_copies.within(pictures)}
    right = {(place, len(images) + place) for place in range(count)}
    again = {pair for pair in recheck.same_pictures(made[:RECHECKED], images) if pair[0] == pair[1]}
    return len(pairs & right), len(again), len(pairs - right)


def digits_joined() -> tuple[int, int, int]:
    """Return the number of digits, of pairs that are joined, and of those whose digits differ."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = [cv2.resize((one * 15).astype(np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC) for one in found.images]
    images = np.repeat(np.stack(grey)[..., None], 3, axis=3)
    pictures = near_copies.Pictures(images, hashing.phashes(images), np.arange(len(images)))
    links = near_copies.within(pictures)
    mixed = sum(found.target[link.first] != found.target[link.second] for link in links)
    return len(images), len(links), int(mixed)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help=".npz file with the cells")
    parser.add_argument("--count", type=int, default=200, help="cells of which versions are made")
    parser.add_argument("--among", type=int, default=1000, help="cells among which they are looked for")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of versions, with commas between them")
    parser.add_argument("--masked", action="store_true", help="black outside of a disc")
    parser.add_argument("--skip-last", type=int, default=1800, help="images at the end of the file to leave out")
    given = parser.parse_args()
    with np.load(given.cells) as file:
        everything = file["images"]
    drawn = np.random.default_rng(1).choice(len(everything) - given.skip_last, given.among, replace=False)
    images = masked(everything[drawn]) if given.masked else everything[drawn]
    for kind in given.kinds.split(","):
        found, again, wrong = measured(kind, images, given.count)
        shares = f"found {found / given.count:6.1%}   by check {again / min(RECHECKED, given.count):6.1%}"
        print(f"{kind:18} {shares}   false {wrong}", flush=True)
    total, joined, mixed = digits_joined()
    print(f"{total:,} digits: {joined} pairs joined, {mixed} of different digits")


if __name__ == "__main__":
    main()
