"""What ``--data`` means where the working directory holds things of the same name."""

from __future__ import annotations

import pytest

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import DataError
from pixelkeep.ultra.data import resolving
from pixelkeep.ultra.data.resolving import find_data, resolve_data


def test_demo__is_the_generated_one_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    """Exports and the demo rely on the name, so it never means a folder or file here; a path names those."""
    file = write_demo(tmp_path / "elsewhere", splits={"train": 1, "val": 1, "test": 1})
    monkeypatch.setitem(resolving.GENERATED, "demo", ("detect", lambda folder, progress: file))
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_data("demo").root == file.parent
    with pytest.raises(DataError, match=r"data './demo' is a folder"):
        resolve_data("./demo")


def test_demo_cls__says_so_beside_a_folder_of_that_name(tmp_path, monkeypatch, caplog):
    """A folder of classes may have been meant, so a warning says that it is not used; a path selects it."""
    monkeypatch.setitem(resolving.GENERATED, "demo-cls", ("classify", lambda folder, progress: tmp_path / "made"))
    monkeypatch.chdir(tmp_path)
    assert find_data("demo-cls", None, "classify") == tmp_path / "made" and "generated" not in caplog.text
    (tmp_path / "demo-cls").mkdir()
    assert find_data("demo-cls", None, "classify") == tmp_path / "made"
    assert "for the folder of that name here give ./demo-cls" in caplog.text
    assert find_data("./demo-cls", None, "classify") == tmp_path / "demo-cls"
