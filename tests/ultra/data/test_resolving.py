"""What ``--data`` means where the working directory holds things of the same name."""

from __future__ import annotations

import pytest

from pixelkeep.datasets.demo import write_demo
from pixelkeep.errors import DataError
from pixelkeep.ultra.data import resolving
from pixelkeep.ultra.data.resolving import resolve_data


def test_demo__is_the_generated_one_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    """Exports and the demo take it by name, so a folder or file here must not stand in its way; a path names those."""
    file = write_demo(tmp_path / "elsewhere", splits={"train": 1, "val": 1, "test": 1})
    monkeypatch.setitem(resolving.GENERATED, "demo", ("detect", lambda folder, progress: file))
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve_data("demo").root == file.parent
    with pytest.raises(DataError, match=r"data './demo' is a folder"):
        resolve_data("./demo")
