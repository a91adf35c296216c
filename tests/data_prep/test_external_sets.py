"""External sets: read by class, cleaned, kept apart from the main set, and checked again from their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_images import tiny_images

from data_prep.check import check
from data_prep.errors import DataError
from data_prep.external_sets import class_order
from data_prep.prepare import prepare
from data_prep.settings import PrepareSettings
from data_prep.sources.labelled_images import LabelledImages
from data_prep.storage.images_csv import KEPT, read_table
from data_prep.storage.reader import PreparedSet


@pytest.fixture(scope="module", autouse=True)
def no_augmentation() -> Iterator[None]:
    """Views that are negatives, as TensorFlow is slow to start."""

    def negatives(images: np.ndarray, views: dict[str, np.ndarray], *_: Any) -> None:
        for array in views.values():
            array[:] = 255 - images[:, None]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.augmentation.levels.augment", negatives)
        yield


@pytest.fixture(scope="module")
def settings(tiny_npz: Path) -> PrepareSettings:
    return PrepareSettings(str(tiny_npz), levels=("low",), corrupted_views=0)


def write(path: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(path, images=images, labels=labels)
    return path


@pytest.fixture(scope="module")
def folder(settings: PrepareSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared sets without and with an external one: 20 images of its own, and others that must go."""
    tmp_path = tmp_path_factory.mktemp("external")
    plain = prepare(settings, tmp_path / "plain")
    main = PreparedSet.open(tmp_path / "plain")
    own, labels = tiny_images(20, seed=7)
    near = np.clip(np.asarray(main.images("test")[:1]).astype(int) + 5, 0, 255).astype(np.uint8)
    images = np.concatenate(
        [
            own,
            main.images("train")[:5],
            near,
            255 - main.images("train")[9:10],  # as its view in the bank
            own[:1],  # a copy
            own[1:2],  # with its twin, two labels
        ]
    )
    labels = np.concatenate([labels, main.labels("train")[:5], main.labels("test")[:1], [1], [0], [labels[1] + 1]])
    other = write(tmp_path / "other.npz", images, labels)
    outcome = prepare(replace(settings, external=(f"other={other}",)), tmp_path / "set")
    assert outcome.manifest["fingerprint"] != plain.manifest["fingerprint"]
    return tmp_path


@pytest.fixture
def made(folder: Path, tmp_path: Path) -> Path:
    """A copy of the set with an external one."""
    return Path(shutil.copytree(folder, tmp_path, dirs_exist_ok=True)) / "set"


def test_an_external_set_keeps_what_is_its_own(made: Path) -> None:
    prepared = PreparedSet.open(made)
    images, labels = prepared.external("other")
    expected, classes = tiny_images(20, seed=7)
    assert prepared.external_names == ("other",)
    assert (images == np.delete(expected, 1, axis=0)).all() and (labels == np.delete(classes, 1)).all()
    counts = prepared.manifest["external"]["other"]["counts"]
    assert counts["rejected"] == {
        "copy of a training image": 5, "contradicting labels": 2, "copy": 1, "near copy of a test image": 1,
        "copy of an augmented training image": 1,
    }  # fmt: skip
    assert (counts["images_read"], counts["kept"], sum(counts["per_class"])) == (29, 19, 19)
    rows = read_table(made / "external_other.csv")
    main = {(row.split, row.row): row.name for row in read_table(made / "images.csv")}
    assert [row.twin for row in rows[20:25]] == [main["train", str(place)] for place in range(5)]
    assert sum(row.decision == KEPT for row in rows) == 19
    assert "External set other" in (made / "report.html").read_text()
    assert len(prepared.bank("low")) == len(prepared.images("train"))


def test_the_main_set_is_what_it_would_be_without(made: Path, settings: PrepareSettings) -> None:
    plain = made.with_name("plain")
    for path in plain.glob("*.npy"):
        assert path.read_bytes() == (made / path.name).read_bytes()
    assert "external" not in PreparedSet.open(plain).manifest["settings"]
    with pytest.raises(DataError, match=r"made differently \(external was other \(\w{8}\), now none\)"):
        prepare(settings, made)


def _training_image(folder: Path) -> None:
    np.load(folder / "external_other_images.npy", mmap_mode="r+")[3] = np.load(folder / "train_images.npy")[4]


def _view(folder: Path) -> None:
    view = np.load(folder / "external_other_images.npy")[3]
    np.load(folder / "bank" / "0000" / "low.npy", mmap_mode="r+")[6, 0] = view


def _label(folder: Path) -> None:
    labels = np.load(folder / "external_other_labels.npy", mmap_mode="r+")
    labels[0] = (labels[0] + 1) % 3


@pytest.mark.parametrize(
    ("alter", "problems"),
    [
        (_training_image, ["image 3 of external set other and train image 4", "external_other.csv must give row"]),
        (_view, ["image 3 of external set other is an augmented view (level low) of train image 6"]),
        (_label, ["external_other.csv must give row", "images by class, but the manifest says"]),
    ],
)
def test_check_looks_at_external_sets(made: Path, alter: Callable[[Path], None], problems: list[str]) -> None:
    assert check(made) == []
    alter(made)
    found = check(made)
    assert any("was altered: its checksum differs" in line for line in found)
    assert all(any(problem in line for line in found) for problem in problems), found


def named(*names: str, labels: tuple[int, ...]) -> LabelledImages:
    return LabelledImages(np.zeros((len(labels), 8, 8, 3), np.uint8), np.array(labels), names, ())


def test_classes_are_matched_by_name_or_by_number() -> None:
    assert class_order(named("b", "empty", "a", labels=(0, 2)), "x", ("a", "b", "c")).tolist() == [1, -1, 0]
    assert class_order(named("0", "1", labels=(0, 1)), "x", ("a", "b", "c")).tolist() == [0, 1]
    assert class_order(named("0", "1", labels=(1,)), "x", ("1", "0")).tolist() == [1, 0]
    # Numbers that the main set has as names are names, whatever place they have there.
    assert class_order(named("0", "1", "2", labels=(1, 2)), "x", ("1", "2", "3")).tolist() == [-1, 0, 1]
    with pytest.raises(DataError, match=r"x must only have classes of the main set \(1, 2, 3\), but has '0'"):
        class_order(named("0", "1", "2", labels=(0, 1, 2)), "x", ("1", "2", "3"))
    for strange in (named("a", "d", labels=(0, 1)), named(*"0123", labels=(3,))):
        with pytest.raises(DataError, match=r"x must only have classes of the main set \(a, b, c\), but has '[d3]'"):
            class_order(strange, "x", ("a", "b", "c"))


def test_the_range_of_values_counts_for_external_sets_too(
    settings: PrepareSettings, tmp_path: Path, folder: Path
) -> None:
    images, labels = tiny_images(20, seed=7)
    unclear = write(tmp_path / "unclear.npz", images + np.float32(0.5), labels)
    given = replace(settings, external=(f"other={unclear}",))
    with pytest.raises(DataError, match=r"external set other: .*--value-range"):
        prepare(given, tmp_path / "set")
    pictures = tmp_path / "pictures"  # which know no such option themselves
    main = PreparedSet.open(folder / "plain")
    for place, (image, label) in enumerate(zip(main.images("train"), main.labels("train"), strict=True)):
        (pictures / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(pictures / str(label) / f"{place}.png")
    ranged = replace(given, source=str(pictures), image_size=32, value_range="0..255")
    assert prepare(ranged, tmp_path / "set").manifest["settings"]["value_range"] == "0..255"
    assert PreparedSet.open(tmp_path / "set").external("other")[0].max() > 200
    with pytest.raises(DataError, match="--value-range is for sources of kind npz, not folder"):
        prepare(replace(ranged, external=()), tmp_path / "other set")


def test_what_is_no_external_set_is_refused_by_name(settings: PrepareSettings, tmp_path: Path) -> None:
    images, labels = tiny_images(12, size=16)
    small = write(tmp_path / "small.npz", images, labels)
    main = settings.source
    for given, message in (
        (
            (f"other={small}",),
            "external set other: .* must have images of 32x32 pixels like the main set, but has 16x16",
        ),
        ((f"other={main}",), "external set other: no image of .* is left after cleaning .copy of a training image: 66"),
        (("other=nowhere",), "external set other: there is no file or folder 'nowhere'"),
        (("other",), "an external set must be NAME=PATH"),
        (("a b=x",), "an external set must be NAME=PATH"),
        (("Test=x",), "different names, other than train, validation, test, but 'Test' is taken"),
        (("b=x", "B=x"), "but 'B' is taken"),
    ):
        with pytest.raises(DataError, match=message):
            prepare(replace(settings, external=given), tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_manifest_with_a_name_that_leads_elsewhere_is_refused(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["external"] = {"../x": manifest["external"]["other"]}
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="external must be an object whose keys are"):
        PreparedSet.open(made)
