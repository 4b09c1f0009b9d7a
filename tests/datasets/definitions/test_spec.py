"""Dataset YAMLs: every good form is read as the same dataset, and a bad one is refused with its file and key."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.errors import DataError

GOOD = "train: images/train\nval: images/val\nnames: [car, person]\n"


@pytest.fixture
def root(tmp_path):
    """A folder with two splits of one image each."""
    for split in ("train", "val"):
        folder = tmp_path / "images" / split
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / f"{split}.png")
    return tmp_path


def read(root, text, name="data.yaml", encoding="utf-8"):
    (root / name).write_text(text, encoding=encoding)
    return load_spec(root / name)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("[car, person]", "{0: car, 1: person}"),
        GOOD.replace("[car, person]", "{1: person, 0: car}"),
        GOOD.replace("[car, person]", "{'0': car, '1': person}"),
        GOOD + "nc: 2\n",
        GOOD + "path: .\n",
        GOOD + "download: a script that nobody runs\n",
        GOOD.replace("val:", "validation:"),
        GOOD.replace("images/train", "[images/train]"),
        GOOD.replace("images/train", "../images/train"),
    ],
)
def test_good_form__same_meaning(root, text):
    """Lists and mappings of names, ``nc``, ``validation`` and ``../`` as Roboflow writes it mean the same dataset."""
    spec = read(root, text)
    assert spec.names == {0: "car", 1: "person"}
    assert list(spec.names) == [0, 1]
    assert spec.splits == {s: [root.resolve() / "images" / s] for s in ("train", "val")}
    assert [p.name for p in spec.images("val")] == ["val.png"]
    assert "download" not in spec.to_ultralytics()


def test_nc_alone__numbered_names(root):
    """Without names, the classes that ``nc`` counts get numbered names."""
    assert read(root, "train: images/train\nval: images/val\nnc: 2\n").names == {0: "class_0", 1: "class_1"}


def test_byte_order_mark__read(root):
    """A YAML and an image list saved with a byte order mark, as Windows editors do, are read."""
    (root / "list.txt").write_text("images/val/val.png\n", encoding="utf-8-sig")
    spec = read(root, GOOD.replace("images/val", "list.txt"), encoding="utf-8-sig")
    assert [p.is_file() for p in spec.images("val")] == [True]


def test_path__relative_to_the_yaml(root, monkeypatch, tmp_path_factory):
    """A relative ``path`` is resolved from the YAML's folder, wherever the command runs."""
    (root / "definitions").mkdir()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    spec = read(root, GOOD + "path: ..\n", name="definitions/data.yaml")
    assert spec.root == root.resolve()


def test_path__in_ultralytics_datasets_folder(root, monkeypatch):
    """A relative ``path`` is looked for in the user's Ultralytics datasets folder before the YAML's own."""
    (root / "definitions").mkdir()
    monkeypatch.setenv("PIXELKEEP_DATASETS_DIR", str(root.parent))
    spec = read(root, GOOD + f"path: {root.name}\n", name="definitions/data.yaml")
    assert spec.root == root.resolve()


def test_several_sources__folders_and_lists(root):
    """A split may be several folders and image lists; blank lines in a list are skipped."""
    (root / "list.txt").write_text("\n./images/val/val.png\n\n")
    spec = read(root, GOOD.replace("train: images/train", "train: [images/train, list.txt]"))
    assert [p.name for p in spec.images("train")] == ["train.png", "val.png"]
    assert spec.count_images("train") == 2
    assert spec.to_ultralytics()["train"] == [str(root / "images" / "train"), str(root / "list.txt")]


def test_ultralytics_dictionary__reads_to_the_same_spec(root):
    """What is handed to Ultralytics reads back to the same dataset, other keys and the source file included."""
    (root / "extras.json").write_text("{}")
    spec = read(root, GOOD + "extras: {val: extras.json}\nchannels: 1\nstretch: [1, 99]\nkpt: 2\n")
    assert spec.extras == {"val": root.resolve() / "extras.json"} and spec.others == {"kpt": 2}
    assert (spec.channels, spec.stretch) == (1, (1, 99))
    again = read(root, yaml.safe_dump(spec.to_ultralytics()), name="resolved.yaml")
    assert again == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping with train, val and names, not NoneType"),
        ("- train\n", "a mapping with train, val and names, not list"),
        ("train: [a\nval: b\n", ", line 2: not valid YAML"),
        ("train: 2001-99-99\n", "not valid YAML"),
        ("train: \x01\n", "not valid YAML"),
        ("train: " + "[" * 1500, "not valid YAML"),
        (GOOD.replace("train: ", "trian: "), "no 'train:'.*is it written as 'trian'?"),
        (GOOD.replace("val: images/val", "vall: images/val"), "no 'val:'.*is it written as 'vall'?"),
        (GOOD.replace("images/train", ""), "no 'train:'"),
        (GOOD.replace("images/val", "[]"), "no 'val:'"),
        (GOOD.replace("images/val", "5"), "'val:' must be a folder, an image list or several of them, not 5"),
        (GOOD.replace("images/val", "images/vall"), "'val: images/vall' not found at .*vall"),
        (GOOD.replace("images/val", "empty"), "'val: empty' holds no images"),
        (GOOD.replace("images/val", "empty.txt"), "'val: empty.txt' holds no images"),
        (GOOD.replace("images/val", "binary.txt"), "binary.txt: cannot be read as text"),
        (GOOD.replace("images/val", "images/val/val.png"), "'val: images/val/val.png' is an image; give its folder"),
        (GOOD.replace("names: [car, person]", ""), "no 'names:'; give the classes as a list or as 'index: name'"),
        (GOOD.replace("names: [", "name: ["), "no 'names:'.*is it written as 'name'?"),
        (GOOD.replace("[car, person]", "car"), "no 'names:'"),
        (GOOD.replace("[car, person]", "[]"), "no 'names:'"),
        (GOOD.replace("[car, person]", "{car: 0}"), "the keys of 'names:' must be class numbers, got car"),
        (GOOD.replace("[car, person]", "{0.5: car}"), "the keys of 'names:' must be class numbers, got 0.5"),
        (GOOD.replace("[car, person]", "{1: car, 2: bus}"), "must run from 0 to 1, got 1, 2"),
        (GOOD.replace("[car, person]", "{0: car, '0': bus}"), "must run from 0 to 1, got 0, 0"),
        (GOOD.replace("[car, person]", "[car, ]\nnc: 2"), "'nc: 2' but 1 names"),
        (GOOD.replace("[car, person]", "[car, null]"), "the name of class 1 in 'names:' must be text, not None"),
        (GOOD.replace("[car, person]", "[car, {a: b}]"), "the name of class 1 in 'names:' must be text"),
        (GOOD + "nc: two\n", "'nc: two' must be the number of classes"),
        (GOOD + "nc: 3\n", "'nc: 3' but 2 names; leave nc out or make them equal"),
        (GOOD.replace("names: [car, person]", "nc: 0"), "'nc: 0' must be the number of classes"),
        (GOOD + "path: nowhere\n", "'path: nowhere' is not a folder; looked at nowhere, "),
        (GOOD + "extras: [a.json]\n", "'extras:' must be a JSON file by split"),
        (GOOD + "extras: {val: 5}\n", "'extras:' must be a JSON file by split"),
        (GOOD + "extras: {val: a.json}\n", "extras of split 'val' not found at .*a.json"),
    ],
)
def test_bad_form__one_line_with_file_and_key(root, text, message):
    """A bad YAML gives one line that opens with its path and says which key is wrong and what would be right."""
    (root / "empty").mkdir()
    (root / "empty.txt").write_text("\n")
    (root / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match=message) as error:
        read(root, text)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(root))


def test_not_text__refused(root):
    """A file that is no text, such as an image given as dataset, is refused by name."""
    with pytest.raises(DataError, match=re.escape("val.png: cannot be read as text")):
        load_spec(root / "images" / "val" / "val.png")


def test_unknown_split__names_those_there(root):
    """Asking for a split that the YAML lacks names the ones it has."""
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        read(root, GOOD).sources("test")
