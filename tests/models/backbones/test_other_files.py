"""A model file of another kind is refused in one line that says how to convert it."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import pytest
from click.testing import CliRunner

from models.backbones.user_rows import asked_backbone
from models.errors import ModelError
from search.cli import main

SAVED = "convert it with .*load_model"
FILES = {
    "old.h5": ("", SAVED),
    "old.HDF5": ("", SAVED),
    "mobilenet.weights.h5": ("hdf5", "weights alone.*: give the network as module:function and this file as --weights"),
    "renamed.keras": ("hdf5", r"rename it to renamed\.h5, and convert it"),
    "no-ending": ("hdf5", r"rename it to no-ending\.h5, and convert it"),
    "text.keras": ("text", r"is not a \.keras file"),
    "empty.keras": ("", r"is not a \.keras file"),
    "frozen.pb": ("text", "TensorFlow graph.*tf_keras"),
    "small.tflite": ("text", "LiteRT model.*give the Keras model"),
    "net.onnx": ("text", "ONNX model.*module:function"),
    "net.pt": ("text", "PyTorch.*module:function"),
    "net.pth": ("text", "PyTorch.*module:function"),
    "net.safetensors": ("text", "safetensors.*module:function"),
    "model.ckpt": ("text", "weights alone.*module:function"),
    "codabench.zip": ("zip", "an archive.*unpack it"),
    "net.model": ("zip", r"does not end in \.keras: rename it"),
    "folder/unknown.xyz": ("text", "of an unknown kind"),
}


def write(path: Path, content: str) -> None:
    path.parent.mkdir(exist_ok=True)
    if content == "hdf5":
        h5py.File(path, "w").close()
    else:
        path.write_bytes({"zip": b"PK\x03\x04", "text": b"no model at all", "": b""}[content])


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_refused_with_the_way_to_convert_it(name: str, tmp_path: Path) -> None:
    content, way_out = FILES[name]
    write(tmp_path / name, content)
    with pytest.raises(ModelError, match=way_out) as caught:
        asked_backbone(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_another_kind_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*old\.h5"):
        asked_backbone(str(tmp_path / "old.h5"))


def test_folders_are_refused_with_the_file_to_give(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    with pytest.raises(ModelError, match=r"is a folder without a \.keras file"):
        asked_backbone(str(saved))
    (saved / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a TensorFlow SavedModel.*tf_keras.*saved\.h5"):
        asked_backbone(str(saved))
    (saved / "model.keras").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a folder: give the file in it, .*saved/model\.keras"):
        asked_backbone(str(saved))


def test_the_way_out_of_an_old_file_works_as_it_is_written(tmp_path: Path) -> None:
    image = keras.Input((24, 24, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    model.save(tmp_path / "old.h5")
    with pytest.raises(ModelError) as caught:
        asked_backbone(str(tmp_path / "old.h5"))
    code = str(caught.value).split('python -c "')[1].split('"`')[0]
    exec(code)
    assert asked_backbone(str(tmp_path / "old.keras")).name == "old"


def test_a_file_in_the_current_folder_hides_no_name_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("vgg16", "mine"):
        Path(name).mkdir()
    assert asked_backbone("vgg16").parameters == 14_714_688
    with pytest.raises(ModelError, match="mine is a folder"):
        asked_backbone("mine")


def test_run_says_it_in_one_line(tmp_path: Path, tiny_workspace: Path) -> None:
    (tmp_path / "old.h5").write_bytes(b"")
    arguments = ["-w", str(tiny_workspace), "run", "--backbone", str(tmp_path / "old.h5"), "--trials", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0 and "as Keras 2 saved it, not a .keras file: convert it with" in result.output
    assert "Traceback" not in result.output
