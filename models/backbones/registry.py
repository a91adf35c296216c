"""The table of backbones.

To add one, add a row to BACKBONES. benchmarks/contract.py tests all rows, and `make test` tests the smaller ones. A
user's own network also becomes a row, made by user_rows.py. Importing this module does not import Keras, so that the
command line can list the rows quickly.
"""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ModelError
from models.keras_config import keras_folder

IMAGENET, UNTRAINED, OWN = "imagenet", "none", "own"
NAMED_WEIGHTS = (IMAGENET, UNTRAINED, OWN)
"""Values of `weights` that name no file: published weights, random weights, and the weights in a `.keras` backbone."""


@dataclass(frozen=True)
class Backbone:
    """A network without its head, with facts about its weights and sizes."""

    name: str
    builder: str
    """Function `module:function` that builds the network, called like those of keras.applications:
    (weights=, include_top=False, input_shape=)."""
    preprocessing: str
    """Name of a row in models/backbones/preprocessing.py: the input range that the pretrained weights expect."""
    native_size: int
    """Side in pixels of the square images it was pretrained on."""
    parameters: int
    """Number of weights without the head."""
    weights_file: str | None = None
    """Name of the file in which keras.applications keeps its ImageNet weights; `{size}` stands for their image size."""
    cuts: tuple[float, ...] = ()
    """Shares of its layers, 0..1, that can be frozen, rounded to hundredths (see cut_points.py)."""
    min_size: int = 32
    """Side in pixels of the smallest images it takes."""
    resolution: int | None = None
    """Default resolution in pixels for images smaller than `min_size`; None: such images are refused."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the builder."""

    own: Mapping[str, str] = field(default_factory=dict)
    """Identity of a user's own network: its `preprocessing`, and the `sha256` of its file or its `function`
    (user_rows.py). Empty for rows of BACKBONES."""

    @property
    def has_imagenet(self) -> bool:
        """Whether `imagenet` is accepted as its weights. It is for any user's function, which may offer them."""
        return self.weights_file is not None or "function" in self.own

    @property
    def has_own_weights(self) -> bool:
        """Whether its weights can come from its own `.keras` file."""
        return "sha256" in self.own


BACKBONES = (
    Backbone(
        "vgg16", "keras.applications:VGG16", "bgr-mean", 224, 14_714_688,
        "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.22, 0.5, 0.72, 0.89, 1.0),
    ),
    Backbone(
        "vgg19", "keras.applications:VGG19", "bgr-mean", 224, 20_024_384,
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.24, 0.48, 0.76, 0.9, 1.0),
    ),
    Backbone(
        "resnet50v2", "keras.applications:ResNet50V2", "-1..1", 224, 23_564_800,
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.27, 0.51, 0.75, 0.87, 1.0),
    ),
    Backbone(
        "resnet101v2", "keras.applications:ResNet101V2", "-1..1", 224, 42_626_560,
        "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.26, 0.49, 0.76, 0.9, 1.0),
    ),
    Backbone(
        "densenet121", "keras.applications:DenseNet121", "rgb-mean-std", 224, 7_037_504,
        "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.25, 0.49, 0.75, 0.9, 1.0),
    ),
    Backbone(
        "inceptionv3", "keras.applications:InceptionV3", "-1..1", 299, 21_802_784,
        "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.28, 0.53, 0.74, 0.9, 1.0), min_size=75,
    ),
    Backbone(
        "xception", "keras.applications:Xception", "-1..1", 299, 20_861_480,
        "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", (0.0, 0.27, 0.5, 0.73, 0.88, 1.0), min_size=71,
    ),
    Backbone(
        "nasnetmobile", "keras.applications:NASNetMobile", "-1..1", 224, 4_269_716,
        "nasnet_mobile_no_top.h5", (0.0, 1.0),
    ),
    Backbone(
        "mobilenetv2_035", "keras.applications:MobileNetV2", "-1..1", 224, 410_208,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{size}_no_top.h5",
        (0.0, 0.23, 0.52, 0.75, 0.93, 1.0), options={"alpha": 0.35},
    ),
    Backbone(
        "mobilenetv2", "keras.applications:MobileNetV2", "-1..1", 224, 2_257_984,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5", (0.0, 0.23, 0.52, 0.75, 0.93, 1.0),
    ),
    Backbone(
        "mobilenetv3small", "keras.applications:MobileNetV3Small", "inside", 224, 939_120,
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", (0.0, 0.25, 0.5, 0.73, 0.89, 1.0),
    ),
    Backbone(
        "mobilenetv3large", "keras.applications:MobileNetV3Large", "inside", 224, 2_996_352,
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", (0.0, 0.22, 0.48, 0.75, 0.9, 1.0),
    ),
    Backbone(
        "efficientnetv2b0", "keras.applications:EfficientNetV2B0", "inside", 224, 5_919_312,
        "efficientnetv2-b0_notop.h5", (0.0, 0.22, 0.49, 0.77, 0.88, 1.0),
    ),
    Backbone(
        "efficientnetv2b1", "keras.applications:EfficientNetV2B1", "inside", 240, 6_931_124,
        "efficientnetv2-b1_notop.h5", (0.0, 0.24, 0.5, 0.77, 0.9, 1.0),
    ),
    Backbone(
        "efficientnetv2b2", "keras.applications:EfficientNetV2B2", "inside", 260, 8_769_374,
        "efficientnetv2-b2_notop.h5", (0.0, 0.27, 0.48, 0.73, 0.91, 1.0),
    ),
    Backbone(
        "efficientnetv2b3", "keras.applications:EfficientNetV2B3", "inside", 300, 12_930_622,
        "efficientnetv2-b3_notop.h5", (0.0, 0.27, 0.48, 0.74, 0.88, 1.0),
    ),
    Backbone(
        "efficientnetv2s", "keras.applications:EfficientNetV2S", "inside", 384, 20_331_360,
        "efficientnetv2-s_notop.h5", (0.0, 0.24, 0.5, 0.76, 0.91, 1.0),
    ),
    Backbone(
        "efficientnetv2m", "keras.applications:EfficientNetV2M", "inside", 480, 53_150_388,
        "efficientnetv2-m_notop.h5", (0.0, 0.25, 0.49, 0.76, 0.9, 1.0),
    ),
    Backbone(
        "efficientnetv2l", "keras.applications:EfficientNetV2L", "inside", 480, 117_746_848,
        "efficientnetv2-l_notop.h5", (0.0, 0.24, 0.5, 0.75, 0.9, 1.0),
    ),
    Backbone(
        "convnexttiny", "keras.applications:ConvNeXtTiny", "inside", 224, 27_820_128,
        "convnext_tiny_notop.h5", (0.0, 0.23, 0.51, 0.77, 0.89, 1.0),
    ),
    Backbone(
        "convnextsmall", "keras.applications:ConvNeXtSmall", "inside", 224, 49_454_688,
        "convnext_small_notop.h5", (0.0, 0.26, 0.5, 0.75, 0.91, 1.0),
    ),
    Backbone(
        "convnextbase", "keras.applications:ConvNeXtBase", "inside", 224, 87_566_464,
        "convnext_base_notop.h5", (0.0, 0.26, 0.5, 0.75, 0.91, 1.0),
    ),
    Backbone(
        "convnextlarge", "keras.applications:ConvNeXtLarge", "inside", 224, 196_230_336,
        "convnext_large_notop.h5", (0.0, 0.26, 0.5, 0.75, 0.91, 1.0),
    ),
    Backbone(
        "convnextxlarge", "keras.applications:ConvNeXtXLarge", "inside", 224, 348_147_968,
        "convnext_xlarge_notop.h5", (0.0, 0.26, 0.5, 0.75, 0.91, 1.0),
    ),
    Backbone(
        "small_cnn", "models.backbones.small_cnn:SmallCNN", "-1..1", 96, 98_928,
        cuts=(0.0, 0.27, 0.47, 0.73, 0.87, 1.0), min_size=16,
    ),
)  # fmt: skip

MOBILENET_SIZES = (96, 128, 160, 192, 224)  # keras.applications uses the 224 px weights for any other size


def backbone_named(name: str) -> Backbone:
    """Return the row of this name.

    Raises:
        ModelError: No row has this name; the message suggests the nearest one.
    """
    for row in BACKBONES:
        if row.name == name:
            return row
    known = [row.name for row in BACKBONES]
    near = difflib.get_close_matches(name.lower(), known, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}"
    raise ModelError(f"unknown backbone {name!r}: {hint}")


def default_weights(backbone: Backbone) -> str:
    """Return `own` for a `.keras` backbone, else `imagenet` if the row has ImageNet weights, else `none`."""
    if backbone.has_own_weights:
        return OWN
    return IMAGENET if backbone.weights_file else UNTRAINED


def weights_path(backbone: Backbone, image_shape: tuple[int, int, int]) -> Path:
    """Return the path where Keras stores the ImageNet weights for images of this shape. The file need not exist."""
    size = image_shape[0] if image_shape[0] == image_shape[1] and image_shape[0] in MOBILENET_SIZES else 224
    return keras_folder() / "models" / (backbone.weights_file or "").format(size=size)


def check_weights(backbone: Backbone, weights: str) -> None:
    """Check that `weights` (`imagenet`, `none`, `own` or a file) can be used with this backbone. Reads no file.

    Raises:
        ModelError: The backbone has no such weights, or there is no such file.
    """
    if weights == IMAGENET and not backbone.has_imagenet:
        raise ModelError(f"{backbone.name} has no ImageNet weights: use --weights none or a file of your own")
    if weights == OWN and not backbone.has_own_weights:
        raise ModelError(f"--weights own needs a backbone from a .keras file, but the backbone is {backbone.name}")
    if weights not in NAMED_WEIGHTS and not Path(weights).is_file():
        raise ModelError(f"--weights must be imagenet, none, own or a file, but {weights!r} is not a file")


def default_resolution(backbone: Backbone, image_shape: tuple[int, int, int]) -> int:
    """Return the default of `Hyperparameters.resolution`, in pixels.

    It is 0 (images as they are) if they reach `min_size`, else the backbone's default, or 0 if it has none.
    """
    return 0 if min(image_shape[:2]) >= backbone.min_size else backbone.resolution or 0


def resized_shape(image_shape: tuple[int, int, int], resolution: int) -> tuple[int, int, int]:
    """Return the shape (h, w, 3) after resizing the shorter side to `resolution` pixels; 0 keeps the shape."""
    height, width, channels = image_shape
    scale = resolution / min(height, width) if resolution else 1
    return round(height * scale), round(width * scale), channels


def check_size(backbone: Backbone, image_shape: tuple[int, int, int], resolution: int = 0) -> None:
    """Check that the images are large enough for the network, after resizing to `resolution` if that is not 0.

    Raises:
        ModelError: They are smaller than `min_size`.
    """
    height, width, _ = image_shape
    if (resolution or min(height, width)) >= backbone.min_size:
        return
    takes = f"{backbone.name} takes images of {backbone.min_size}x{backbone.min_size} or larger"
    if resolution:
        raise ModelError(f"{takes}, but the resolution is {resolution}: give a larger one, or use small_cnn")
    raise ModelError(
        f"{takes}, but the prepared images are {height}x{width}: resize them in the network with --resolution "
        f"{backbone.min_size} or more, prepare larger ones (--image-size for folders), or use small_cnn"
    )


def build(backbone: Backbone, weights: str, image_shape: tuple[int, int, int]) -> Any:
    """Build the network, and download its ImageNet weights if they are wanted and missing.

    Returns:
        A functional `keras.Model`: images (n, h, w, 3) in the row's input range -> features (n, h', w', c).

    Raises:
        ModelError: The weights or the image size do not fit, or the weights cannot be downloaded.
    """
    check_weights(backbone, weights)
    module, function = backbone.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    wanted = None if weights == UNTRAINED else weights
    try:
        with warnings.catch_warnings():
            # MobileNetV3 warns at every size but 224, and uses the same weights.
            warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
            return builder(weights=wanted, include_top=False, input_shape=image_shape, **backbone.options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_why_not_built(backbone, weights, image_shape, error)) from error


def _why_not_built(backbone: Backbone, weights: str, image_shape: tuple[int, int, int], error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if weights == IMAGENET and backbone.weights_file:
        path = weights_path(backbone, image_shape)
        if path.is_file():
            return (
                f"the ImageNet weights of {backbone.name} in {path} do not load ({reason}): if the file is damaged, "
                "move it away, and it is downloaded again"
            )
        return (
            f"the ImageNet weights of {backbone.name} are not on this machine and cannot be downloaded: "
            f"put {path.name} into {path.parent}, or use --weights none ({reason})"
        )
    what = f"with the weights {weights}" if weights != UNTRAINED else "untrained"
    return f"{backbone.name} cannot be built {what} for images of {image_shape[0]}x{image_shape[1]}: {reason}"
