"""Backbones of the user's own: what is taken out of a file, what a function must give, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_images import CLASSES

from models.backbones.cut_points import single_tensor_cuts
from models.backbones.preprocessing import PREPROCESSING
from models.backbones.registry import (
    IMAGENET,
    OWN,
    UNTRAINED,
    Backbone,
    backbone_named,
    build,
    check_weights,
    default_weights,
)
from models.backbones.user_networks import ready_backbone
from models.backbones.user_rows import PREPROCESSING_NAMES, asked_backbone, stored_backbone
from models.errors import ModelError
from models.formats.keras_file import _orientations
from models.networks.classifier import ClassifierSettings, make_classifier
from models.networks.compiled_steps import gradient_function

SHAPE = (32, 32, 3)


def ready(path: Path, preprocessing: str | None = None) -> Backbone:
    """As a training process has it."""
    row = asked_backbone(str(path), preprocessing)
    return ready_backbone(row.name, row.own, str(path))


def small_classifier(path: Path, name: str = "small_cnn") -> keras.Model:
    """An export of ours; its network."""
    keras.utils.set_random_seed(1)
    classifier = make_classifier(ClassifierSettings(backbone_named(name), UNTRAINED, SHAPE, CLASSES), 0.1)
    classifier.joined.save(path)
    return classifier.network


@pytest.mark.parametrize("name", ["small_cnn", "mobilenetv3small"])
def test_an_export_gives_its_network_with_its_weights_and_preprocessing(name: str, tmp_path: Path) -> None:
    network = small_classifier(tmp_path / "old.keras", name)
    row = ready(tmp_path / "old.keras")
    assert (row.name, row.native_size, row.preprocessing) == ("old", 32, backbone_named(name).preprocessing)
    assert default_weights(row) == OWN
    taken = build(row, OWN, SHAPE)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")
    np.testing.assert_array_equal(taken(images, training=False), network(images, training=False))
    larger = build(row, OWN, (48, 40, 3))
    assert larger(np.zeros((1, 48, 40, 3), "float32")).shape[0] == 1
    for one, other in zip(larger.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_weights_the_network_is_as_new_and_a_file_of_weights_is_taken(tmp_path: Path) -> None:
    network = small_classifier(tmp_path / "old.keras")
    row = ready(tmp_path / "old.keras")
    new = build(row, UNTRAINED, SHAPE).get_weights()
    assert any((one != other).any() for one, other in zip(new, network.get_weights(), strict=True))
    build(row, OWN, SHAPE).save_weights(tmp_path / "w.weights.h5")
    again = build(row, str(tmp_path / "w.weights.h5"), SHAPE).get_weights()
    assert all((one == other).all() for one, other in zip(again, network.get_weights(), strict=True))


def test_an_export_that_turns_its_images_is_unwrapped(tmp_path: Path) -> None:
    small_classifier(tmp_path / "old.keras")
    member = keras.saving.load_model(tmp_path / "old.keras")
    image = keras.Input(SHAPE, dtype="uint8")
    member = keras.Model(member.inputs[0], member.outputs[0], name="member_0")
    mean = keras.layers.Average()([member(view) for view in _orientations(image)])
    keras.Model(image, mean).save(tmp_path / "turned.keras")
    row = ready(tmp_path / "turned.keras")
    assert row.preprocessing == "-1..1"
    assert build(row, OWN, SHAPE).count_params() == backbone_named("small_cnn").parameters


def test_another_model_gives_all_before_its_head_and_preprocesses_inside(tmp_path: Path) -> None:
    image = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = features = keras.layers.Conv2D(5, 3, activation="relu")(x)
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    model = keras.Model(image, x)
    model.save(tmp_path / "my net-2.keras")
    row = ready(tmp_path / "my net-2.keras")
    assert (row.name, row.preprocessing, row.native_size) == ("my_net_2", "inside", 24)
    images = np.random.default_rng(0).uniform(0, 255, (2, 24, 24, 3)).astype("float32")
    expected = keras.Model(image, features)(images)
    np.testing.assert_allclose(build(row, OWN, (24, 24, 3))(images), expected, atol=1e-6)
    assert ready(tmp_path / "my net-2.keras", "-1..1").preprocessing == "-1..1"


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_the_preprocessing_in_front_of_a_network_is_found_behind_a_resizing(kind: str, tmp_path: Path) -> None:
    image = keras.Input(SHAPE, dtype="uint8")
    network = keras.Sequential([keras.Input((20, 20, 3)), keras.layers.Conv2D(64, 3)])
    x = network(PREPROCESSING[kind](keras.layers.Resizing(20, 20)(image)))
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(tmp_path / "old.keras")
    row = ready(tmp_path / "old.keras")
    assert row.preprocessing == kind
    assert build(row, OWN, SHAPE).output_shape == (None, 30, 30, 64)


def test_a_preprocessing_that_is_none_of_ours_must_be_named(tmp_path: Path) -> None:
    image = keras.Input(SHAPE)
    network = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(64, 3)])
    x = keras.layers.GlobalAveragePooling2D()(network(keras.layers.Rescaling(0.5, offset=7.0)(image)))
    keras.Model(image, keras.layers.Dense(2)(x)).save(tmp_path / "odd.keras")
    with pytest.raises(ModelError, match=r"none of -1\.\.1, .*: give the one .* as --preprocessing"):
        ready(tmp_path / "odd.keras")
    row = ready(tmp_path / "odd.keras", "inside")
    assert build(row, OWN, SHAPE).output_shape == (None, 30, 30, 64)


def test_files_that_cannot_be_a_backbone_are_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*absent\.keras: --backbone takes"):
        asked_backbone(str(tmp_path / "absent.keras"))
    (tmp_path / "text.keras").write_text("no zip")
    with pytest.raises(ModelError, match=r"text\.keras is not a \.keras file"):
        asked_backbone(str(tmp_path / "text.keras"))
    flat = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    flat.save(tmp_path / "flat.keras")
    with pytest.raises(ModelError, match="must be a functional model with one input of images"):
        ready(tmp_path / "flat.keras")
    dense = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(2)])
    dense.save(tmp_path / "dense.keras")
    with pytest.raises(ModelError, match="must hold one network"):
        build(ready(tmp_path / "dense.keras"), OWN, SHAPE)
    keras.Sequential([keras.Input(SHAPE), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "lambda.keras")
    with pytest.raises(ModelError, match=r"does not open with Keras alone .* --backbone module:function"):
        ready(tmp_path / "lambda.keras")


def test_a_file_is_known_by_its_content_and_its_name_is_none_of_the_table(tmp_path: Path) -> None:
    for folder in ("first-export", "second"):
        (tmp_path / folder).mkdir()
    small_classifier(tmp_path / "first-export" / "model.keras")
    (tmp_path / "second" / "vgg19.keras").write_bytes((tmp_path / "first-export" / "model.keras").read_bytes())
    one, other = (asked_backbone(str(path)) for path in sorted(tmp_path.glob("*/*.keras")))
    assert (one.name, other.name) == ("first_export", "vgg19_own")
    assert one.own == other.own
    with pytest.raises(ModelError, match=r"needs the file .*, which is missing: put the \.keras file back"):
        stored_backbone(one.name, one.own, str(tmp_path / "gone.keras"))


def test_a_preprocessing_is_for_own_networks_alone() -> None:
    assert tuple(sorted(PREPROCESSING_NAMES)) == tuple(sorted(PREPROCESSING))
    with pytest.raises(ModelError, match=r"but vgg19 always uses bgr-mean"):
        asked_backbone("vgg19", "inside")
    with pytest.raises(ModelError, match=r"--weights own needs a backbone from a \.keras file"):
        check_weights(backbone_named("vgg19"), OWN)


FUNCTIONS = """
import keras
def tiny(weights=None, include_top=False, input_shape=None):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Conv2D(4, 3, bias_initializer="ones" if weights else "zeros")(image))
def pooled(weights=None, include_top=False, input_shape=None):
    network = tiny(weights, include_top, input_shape)
    return keras.Model(network.inputs, keras.layers.GlobalAveragePooling2D()(network.outputs[0]))
"""


def test_a_function_of_the_current_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_networks.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    row = asked_backbone("their_networks:tiny", "-1..1")
    assert (row.name, row.preprocessing, default_weights(row)) == ("tiny", "-1..1", UNTRAINED)
    check_weights(row, IMAGENET)  # what it means is the function's own affair
    assert [build(row, weights, SHAPE).get_weights()[1].max() for weights in (UNTRAINED, IMAGENET)] == [0, 1]
    with pytest.raises(ModelError, match=r"must return a functional keras\.Model .* but returned .*\(None, 4\)"):
        build(asked_backbone("their_networks:pooled"), UNTRAINED, SHAPE)
    with pytest.raises(ModelError, match="has no function 'missing'"):
        build(asked_backbone("their_networks:missing"), UNTRAINED, SHAPE)
    with pytest.raises(ModelError, match=r"run hpsearch in the folder of no_such_module\.py"):
        build(asked_backbone("no_such_module:tiny"), UNTRAINED, SHAPE)
    with pytest.raises(ModelError, match="a function must be given as module:function"):
        asked_backbone("their networks:tiny")


def test_what_regularizes_an_own_network_is_part_of_its_loss() -> None:
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", kernel_regularizer="l2")(image))
    model.set_weights([np.full((4, 3), 2.0), np.zeros(3)])
    step = gradient_function(model, model.trainable_variables)
    loss, gradient = step(np.zeros((2, 4), "float32"), np.eye(3, dtype="float32")[[0, 1]], np.ones(2, "float32"))
    assert float(loss) == pytest.approx(np.log(3) + 0.01 * 12 * 4)
    np.testing.assert_allclose(gradient[:12], 2 * 0.01 * 2.0, rtol=1e-5)


def test_constraints_that_training_would_not_keep_to_are_refused(tmp_path: Path) -> None:
    image = keras.Input((32, 32, 3))
    keras.Model(image, keras.layers.Conv2D(4, 3, kernel_constraint="max_norm")(image)).save(tmp_path / "bound.keras")
    own = asked_backbone(str(tmp_path / "bound.keras"), None)
    row = ready_backbone(own.name, own.own, str(tmp_path / "bound.keras"))
    with pytest.raises(ModelError, match=r"bound.keras has a constraint on .*kernel, which training would ignore"):
        build(row, OWN, (32, 32, 3))


def test_rows_of_own_networks_are_made_without_keras(tmp_path: Path) -> None:
    small_classifier(tmp_path / "old.keras")
    code = (
        "import sys; from models.backbones.user_rows import asked_backbone as asked; asked(sys.argv[1]); asked('m:f');"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "old.keras")], check=True)


def test_a_layer_that_is_called_twice_lies_on_one_side_of_each_cut() -> None:
    activation, shared = keras.layers.ReLU(), keras.layers.Conv2D(4, 3, padding="same")
    image = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    for layer in (shared, shared, keras.layers.Conv2D(2, 3)):
        x = activation(layer(x))
    network = keras.Model(image, keras.layers.MaxPooling2D()(x))
    cuts = single_tensor_cuts(network)
    assert [cut.fraction for cut in cuts] == [0, 1 / 8, 7 / 8, 1]
    assert [cut.parameter_fraction for cut in cuts][-2:] == [1, 1]
    images = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")
    for cut in cuts[1:-1]:
        front, behind = keras.Model(image, cut.tensor), keras.Model(cut.tensor, network.outputs[0])
        np.testing.assert_allclose(behind(front(images)), network(images), atol=1e-6)


def test_a_file_whose_last_activation_is_called_before_too_keeps_it(tmp_path: Path) -> None:
    activation = keras.layers.ReLU()
    x = image = keras.Input((24, 24, 3))
    for filters in (4, 5):
        x = activation(keras.layers.Conv2D(filters, 3)(x))
    keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x))).save(tmp_path / "net.keras")
    row = ready(tmp_path / "net.keras", "inside")
    images = np.random.default_rng(0).uniform(0, 255, (2, 24, 24, 3)).astype("float32")
    found = build(row, OWN, (24, 24, 3))(images)
    assert found.shape == (2, 20, 20, 5) and np.asarray(found).min() == 0
