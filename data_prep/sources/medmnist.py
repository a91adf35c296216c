"""MedMNIST's two-dimensional sets, read by name from Zenodo (Yang et al. 2023, doi 10.5281/zenodo.10519652).

Names, labels, checksums and licences are copied from info.py of the package medmnist 3.0.2. To add a set, add a row to
SETS.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.sources.download import cache_folder, checksum, download
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.npz_source import read_npz

RECORD = "https://zenodo.org/records/10519652/files"
RECORD_VARIABLE = "HPSEARCH_MEDMNIST_URL"
"""Environment variable that replaces RECORD, for example with the address of a mirror."""
SIZES = (28, 64, 128, 224)
DEFAULT_SIZE = 64
"""Side of the images in pixels. It is not 28, because pretrained networks do not accept images that small."""

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)


@dataclass(frozen=True)
class MedMnistSet:
    """A set of MedMNIST.

    Attributes:
        class_names: Names of the classes, indexed by label.
        md5: MD5 sums of its files, one for each of SIZES, hexadecimal.
        licence: Licence of the images.
    """

    class_names: tuple[str, ...]
    md5: tuple[str, str, str, str]
    licence: str = "CC BY 4.0"


SETS: Mapping[str, MedMnistSet] = MappingProxyType(
    {
        "pathmnist": MedMnistSet(
            (
                "adipose",
                "background",
                "debris",
                "lymphocytes",
                "mucus",
                "smooth muscle",
                "normal colon mucosa",
                "cancer-associated stroma",
                "colorectal adenocarcinoma epithelium",
            ),
            (
                "a8b06965200029087d5bd730944a56c1",
                "55aa9c1e0525abe5a6b9d8343a507616",
                "ac42d08fb904d92c244187169d1fd1d9",
                "2c51a510bcdc9cf8ddb2af93af1eadec",
            ),
        ),
        "dermamnist": MedMnistSet(
            (
                "actinic keratoses and intraepithelial carcinoma",
                "basal cell carcinoma",
                "benign keratosis-like lesions",
                "dermatofibroma",
                "melanoma",
                "melanocytic nevi",
                "vascular lesions",
            ),
            (
                "0744692d530f8e62ec473284d019b0c7",
                "b70a2f5635c6199aeaa28c31d7202e1f",
                "2defd784463fa5243564e855ed717de1",
                "8974907d8e169bef5f5b96bc506ae45d",
            ),
            "CC BY-NC 4.0",
        ),
        "octmnist": MedMnistSet(
            ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
            (
                "c68d92d5b585d8d81f7112f81e2d0842",
                "e229e9440236b774d9f0dfef9d07bdaf",
                "0a97e76651ace45c5d943ee3f65b63ae",
                "abc493b6d529d5de7569faaef2773ba3",
            ),
        ),
        "pneumoniamnist": MedMnistSet(
            ("normal", "pneumonia"),
            (
                "28209eda62fecd6e6a2d98b1501bb15f",
                "8f4eceb4ccffa70c672198ea285246c6",
                "05b46931834c231683c68f40c47b2971",
                "d6a3c71de1b945ea11211b03746c1fe1",
            ),
        ),
        "retinamnist": MedMnistSet(
            ("0", "1", "2", "3", "4"),
            (
                "bd4c0672f1bba3e3a89f0e4e876791e4",
                "afda852cc34dcda56f86ad2b2457dbcc",
                "e48e916a24454daf90583d4e6efb1a18",
                "eae7e3b6f3fcbda4ae613ebdcbe35348",
            ),
        ),
        "breastmnist": MedMnistSet(
            ("malignant", "normal, benign"),
            (
                "750601b1f35ba3300ea97c75c52ff8f6",
                "742edef2a1fd1524b2efff4bd7ba9364",
                "363e4b3f8d712e9b5de15470a2aaadf1",
                "b56378a6eefa9fed602bb16d192d4c8b",
            ),
        ),
        "bloodmnist": MedMnistSet(
            (
                "basophil",
                "eosinophil",
                "erythroblast",
                "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
                "lymphocyte",
                "monocyte",
                "neutrophil",
                "platelet",
            ),
            (
                "7053d0359d879ad8a5505303e11de1dc",
                "2b94928a2ae4916078ca51e05b6b800b",
                "adace1e0ed228fccda1f39692059dd4c",
                "b718ff6835fcbdb22ba9eacccd7b2601",
            ),
        ),
        "tissuemnist": MedMnistSet(
            (
                "Collecting Duct, Connecting Tubule",
                "Distal Convoluted Tubule",
                "Glomerular endothelial cells",
                "Interstitial endothelial cells",
                "Leukocytes",
                "Podocytes",
                "Proximal Tubule Segments",
                "Thick Ascending Limb",
            ),
            (
                "ebe78ee8b05294063de985d821c1c34b",
                "123ece2eba09d0aa5d698fda57103344",
                "61b955355d7425a89687b06cca3ce0c2",
                "b077128c4a949f0a4eb01517f9037b9c",
            ),
        ),
        "organamnist": MedMnistSet(
            _ORGANS,
            (
                "68e3f8846a6bd62f0c9bf841c0d9eacc",
                "2dcccc29b88e6da5a01161ef20cda288",
                "eeae80d0a227a8d099027e1b3cfd3b60",
                "50747347e05c87dd3aaf92c49f9f3170",
            ),
        ),
        "organcmnist": MedMnistSet(
            _ORGANS,
            (
                "b9ceb9546e10131b32923c5bbeaea2b1",
                "3ce34a8724ea6f548e6db4744d03b6a9",
                "773c1f009daa3fe5d9a2a201b2a7ed94",
                "050f5e875dc056f6768abf94ec9995d1",
            ),
        ),
        "organsmnist": MedMnistSet(
            _ORGANS,
            (
                "9ab87b696fb54e2a387ebe992d6ed5f1",
                "53a6d115339d874c25e309a994ff46d3",
                "ded0c5fa01a95dc4978b956f613e9b8e",
                "b354719e553fbbb2513d5533f52a4cb1",
            ),
        ),
    }
)

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {"chestmnist": "its images have several labels each"}
    | {
        f"{name}mnist3d": "its images are three-dimensional"
        for name in ("organ", "nodule", "adrenal", "fracture", "vessel", "synapse")
    }
)
"""MedMNIST sets that do not suit single-label image classification -> the reason."""


def is_known(source: str) -> bool:
    """Return whether this is the name of a MedMNIST set, in any case.

    Names in LEFT_OUT count too, so that `read_set` can tell the user why such a set cannot be prepared.
    """
    return source.lower() in SETS or source.lower() in LEFT_OUT


def file_name(name: str, size: int) -> str:
    """Return the name of a set's file in the Zenodo record, for images of `size` pixels."""
    return f"{name}.npz" if size == SIZES[0] else f"{name}_{size}.npz"


def set_digest(source: str) -> str:
    """Return a sha256 over the checksums of all sizes, hexadecimal. It needs no download.

    Raises:
        DataError: The set is in LEFT_OUT.
    """
    name, row = _row(source)
    return hashlib.sha256(f"{name} {' '.join(row.md5)}".encode()).hexdigest()


def read_set(source: str, size: int, progress: Progress) -> LabelledImages:
    """Read a set with its own split, and download it to the cache folder first if it is not there.

    Args:
        source: Name of the set.
        size: Side of the images in pixels, one of SIZES.
        progress: Receives the number of megabytes downloaded.

    Raises:
        DataError: The set is in LEFT_OUT, the size is not one of SIZES, there is no network, or the file is damaged.
    """
    name, row = _row(source)
    if size not in SIZES:
        raise DataError(f"{name} has images of {', '.join(map(str, SIZES))} pixels, not of {size}: give another --size")
    path, md5 = cache_folder() / file_name(name, size), row.md5[SIZES.index(size)]
    if not path.is_file():
        base = os.environ.get(RECORD_VARIABLE) or RECORD
        progress_title = f"downloading {path.name} ({row.licence})"
        download(f"{base.rstrip('/')}/{path.name}?download=1", path, md5, progress_title, progress)
    elif checksum(path) != md5:
        raise DataError(f"{path} is not the published file (its MD5 sum is not {md5}): remove it to download it again")
    data = read_npz(path)
    if len(data.class_names) != len(row.class_names) or data.sides is None:
        raise DataError(
            f"{path} must have {len(row.class_names)} classes and a split, but has {len(data.class_names)} classes and "
            f"{'no' if data.sides is None else 'a'} split: remove it to download it again"
        )
    return replace(data, class_names=row.class_names)


def _row(source: str) -> tuple[str, MedMnistSet]:
    name = source.lower()
    if name in LEFT_OUT:
        raise DataError(f"{name} cannot be prepared, because {LEFT_OUT[name]}: choose one of {', '.join(SETS)}")
    return name, SETS[name]
