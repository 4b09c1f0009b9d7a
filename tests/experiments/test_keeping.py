"""Kept files name no folder of the machine."""

from __future__ import annotations

from pathlib import Path

from pixelkeep import assets
from pixelkeep.experiments.evidence import Place
from pixelkeep.experiments.keeping import portable


def test_portable__caches_and_projects_are_named_by_what_they_are(tmp_path):
    """Paths in the cache, the evidence folder and the data folder are written with a word for that folder."""
    data = tmp_path / "hituav"
    place = Place(tmp_path / "runs", "early", {}, bf16=True, path=str(data))
    text = f"{assets.home()}/data/a.yaml {tmp_path / 'runs'}/1-plain {data}/images {Path.cwd()}/x"
    assert portable(text, place) == "$PIXELKEEP_HOME/data/a.yaml evidence/1-plain hituav/images ./x"
