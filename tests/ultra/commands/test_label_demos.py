"""The demo datasets for classification and segmentation are learnt out of the box as well as the recipes promise."""

from __future__ import annotations

import json

import pytest

from pixelkeep.cli.main import run
from pixelkeep.ultra.running.settings import load_recipe


@pytest.mark.slow
@pytest.mark.parametrize(("config", "figure"), [("demo-cls", "top1"), ("demo-sem", "mIoU")])
def test_demo__is_learnt(config, figure, tmp_path):
    """Training reaches floors that lie below the measured figures and far above guessing (0.2) or all land (0.064)."""
    with pytest.raises(SystemExit) as ended:
        run(["train", "--config", config, "--project", str(tmp_path)])
    assert not ended.value.code
    result = json.loads((tmp_path / "exp" / "metrics.json").read_text())
    assert result[figure] >= load_recipe(config)["expected"][figure]
