"""Makes a `.keras` file open with older versions of Keras, and tells which version a file needs.

Each version of Keras writes options that earlier ones refuse, even where the options have no effect. `make_portable`
removes them from the file's config.json where they stand at their defaults. The tables come from comparing the
signatures in Keras 3.4 to 3.15; benchmarks/keras_versions.py opens real files with each version. To support a new
version, add its options to OPTIONS and its classes to NEW_CLASSES.

Keras 3.3 reads the inputs and outputs of a model in a form that later versions no longer understand, so 3.4 is the
oldest version that can be reached. Importing this module does not import Keras.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.files import replacing
from models.keras_versions import CONFIG, UNREADABLE, read_member, version_number

OLDEST = "3.4"
"""Oldest version of Keras that opens a file without newer options and classes."""

_INITIALIZERS = "VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform"
_ATTENTION = "MultiHeadAttention GroupQueryAttention GroupedQueryAttention"
_LOOKUPS = "IntegerLookup StringLookup"
_CROPPING = "CenterCrop RandomCrop RandomFlip RandomTranslation RandomZoom Resizing"


@dataclass(frozen=True)
class Option:
    """Option that a version of Keras added to the configuration of existing classes."""

    name: str
    default: Any
    since: str
    """First version that accepts it."""
    classes: str
    """Names of the classes, divided by spaces."""


OPTIONS = (
    Option("input_axes", None, "3.15", _INITIALIZERS),
    Option("output_axes", None, "3.15", _INITIALIZERS),
    Option("sliding_window", None, "3.15", _ATTENTION),
    Option("renorm", False, "3.14", "BatchNormalization"),
    Option("renorm_clipping", None, "3.14", "BatchNormalization"),
    Option("renorm_momentum", 0.99, "3.14", "BatchNormalization"),
    Option("use_gate", False, "3.14", _ATTENTION),
    Option("oov_method", "floormod", "3.14", _LOOKUPS),
    Option("salt", None, "3.14", _LOOKUPS),
    Option("quantization_config", None, "3.13", "Dense EinsumDense Embedding ReversibleEmbedding"),
    Option("gptq_unpacked_column_size", None, "3.12", "EinsumDense"),
    Option("lora_alpha", None, "3.10", "Conv1D Conv2D Conv3D Dense EinsumDense Embedding"),
    Option("antialias", False, "3.9", "Resizing"),
    Option("ragged", False, "3.9", "InputLayer"),
    Option("value_range", [0, 255], "3.8", "RandomContrast"),
    Option("flash_attention", None, "3.7", _ATTENTION),
    Option("seed", None, "3.7", "GroupQueryAttention GroupedQueryAttention"),
    Option("bounding_box_format", None, "3.6", f"{_CROPPING} RandomBrightness RandomContrast"),
    Option("data_format", None, "3.6", "RandomBrightness RandomContrast RandomFlip"),
    Option("factor", None, "3.6", _CROPPING),
    Option("data_format", None, "3.5", "ZeroPadding1D"),
)
NEW_CLASSES = {
    "3.15": "SobelEdges SSIM MatrixRank Pinv SegmentMin SegmentProd CDist Erfc Fabs Fmax Fmin Nanpercentile Percentile "
    "Unique Dsplit",
    "3.14": "ContrastLimitedAdaptiveHistogramEqualization Fold DepthToSpace SpaceToDepth AllClose Rad2deg Dstack "
    "Fliplr Flipud Geomspace Hsplit I0 Fmod Nanargmax Nanargmin Nancumsum Nancumprod Nanmax Nanmean Nanmedian Nanmin "
    "Nanprod Nanquantile Nanstd Nansum Nanvar Ptp Sinc Vsplit Nextafter",
    "3.13": "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D "
    "AdaptiveMaxPooling2D AdaptiveMaxPooling3D AdaptiveMaxPool AdaptiveAveragePool EmptyLike Ldexp Vander ArraySplit",
    "3.12": "ReversibleEmbedding ScaleAndTranslate CholeskyInverse JVP Unfold View Gcd Hypot IsIn Isneginf Isposinf "
    "Isreal Kron Lcm Logaddexp2 Trapezoid",
    "3.11": "VectorizedMap LayerNorm Heaviside Cbrt Deg2rad Corrcoef",
    "3.10": "RandomElasticTransform ElasticTransform ViewAsComplex ViewAsReal SparseSigmoid Angle",
    "3.9": "AugMix CutMix RMSNormalization RandomErasing RandomGaussianBlur RandomInvert RandomPerspective "
    "PerspectiveTransform GaussianBlur RMSNorm Polar Rot90 Signbit Rearrange",
    "3.8": "Equalization MixUp RandAugment RandomColorDegeneration RandomColorJitter RandomGrayscale RandomHue "
    "RandomPosterization RandomSaturation RandomSharpness RandomShear SparsePlus Threshold Sparsemax Diagflat "
    "UnravelIndex",
    "3.7": "MaxNumBoundingBoxes STFTSpectrogram Orthogonal ConvertToTensor IFFT2 SoftShrink Squareplus Celu Glu "
    "TanhShrink HardTanh HardShrink Exp2 Inner",
    "3.6": "AutoContrast Pipeline Solarization SaturateCast Logdet DotProductAttention BitwiseAnd BitwiseInvert "
    "BitwiseNot BitwiseOr BitwiseXor BitwiseLeftShift LeftShift BitwiseRightShift RightShift Trunc Histogram",
    "3.5": "AssociativeScan SegmentReduction SearchSorted",
}
"""First version -> names of the layers, initializers and operations that it added."""
NAMED_OPERATIONS = "3.11"
"""First version whose operations with arguments accept a name."""
_SINCE = {name: since for since, names in NEW_CLASSES.items() for name in names.split()}


def make_portable(path: Path) -> str:
    """Rewrite a `.keras` file so that the oldest possible version of Keras opens it, with the same answers.

    Returns:
        The oldest version of Keras that opens it, such as "3.4".

    Raises:
        OSError, zipfile.BadZipFile, KeyError, ValueError: It is no `.keras` file.
    """
    config = read_member(path, CONFIG)
    before = json.dumps(config)
    after = json.dumps(portable_config(config))
    if after != before:
        with replacing(path) as partial:
            _copy_with(path, partial, after)
    return _needed(config)


def portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """Remove from a model's configuration, in place, what older versions refuse and that has no effect."""
    for one in _objects(config):
        _drop_defaults(one)
        _drop_operation_names(one)
    return config


def needed_keras(path: Path) -> str:
    """Return the oldest version of Keras that opens a `.keras` file, by the tables; OLDEST for an unreadable file."""
    try:
        return _needed(read_member(path, CONFIG))
    except UNREADABLE:
        return OLDEST


def _copy_with(source: Path, target: Path, config: str) -> None:
    """Copy a `.keras` file with another config.json."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            if member.filename == CONFIG:
                new.writestr(member, config)
                continue
            with old.open(member) as reader, new.open(member, "w") as writer:
                shutil.copyfileobj(reader, writer, 2**20)


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield each serialized object of Keras in a configuration, an outer one before those in it."""
    if isinstance(config, dict):
        if isinstance(config.get("config"), dict) and str(config.get("module")).split(".")[0] == "keras":
            yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _newer_options(one: dict[str, Any]) -> Iterator[Option]:
    for option in OPTIONS:
        if option.name in one["config"] and one["class_name"] in option.classes.split():
            yield option


def _drop_defaults(one: dict[str, Any]) -> None:
    for option in _newer_options(one):
        if one["config"][option.name] == option.default:
            del one["config"][option.name]


def _is_named_operation(one: dict[str, Any]) -> bool:
    return str(one.get("module")).startswith("keras.src.ops") and "name" in one["config"] and len(one["config"]) > 1


def _drop_operation_names(model: dict[str, Any]) -> None:
    """Remove the names of a model's operations, which Keras gives anew, unless a layer's name could be given twice."""
    layers = [one for one in model["config"].get("layers", []) if isinstance(one, dict) and "config" in one]
    operations = [one for one in layers if _is_named_operation(one)]
    fixed = {one["config"].get("name") for one in layers if one not in operations}
    for one in operations:
        base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", one["class_name"]).lower()
        if not any(re.fullmatch(rf"{base}(_\d+)?", str(name)) for name in fixed):
            del one["config"]["name"]


def _needed(config: Any) -> str:
    versions = {OLDEST}
    for one in _objects(config):
        versions.add(_SINCE.get(one["class_name"], OLDEST))
        versions |= {option.since for option in _newer_options(one)}
        versions |= {NAMED_OPERATIONS} if _is_named_operation(one) else set()
    return max(versions, key=version_number)
