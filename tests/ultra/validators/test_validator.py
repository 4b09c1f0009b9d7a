"""The validator: boxes are evaluated in original pixels, ignored objects stay neutral, every image has its id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics import YOLO

from pixelkeep.datasets.definitions.spec import load_spec
from pixelkeep.datasets.demo import write_demo
from pixelkeep.datasets.loading import load_split
from pixelkeep.datasets.saving import save_split, save_yaml
from pixelkeep.ultra.commands.validation import JUDGE
from pixelkeep.ultra.data.resolving import write_resolved
from pixelkeep.ultra.validators.boxes import Validator


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return load_spec(write_demo(tmp_path_factory.mktemp("demo") / "tiny", splits={"train": 2, "val": 6, "test": 1}))


class Oracle(Validator):
    """Detects all labelled objects, plus the boxes a test adds, in the network's pixels."""

    extra = staticmethod(lambda file: [])  # returns boxes (x1, y1, x2, y2) in original pixels

    def update_metrics(self, preds, batch):
        found = []
        for index in range(len(preds)):
            labelled = self._prepare_batch(index, batch)
            (gain, _), pad = labelled["ratio_pad"]
            more = torch.tensor(self.extra(labelled["im_file"])).reshape(-1, 4) * gain
            more += torch.tensor([pad[0], pad[1], pad[0], pad[1]])
            boxes = torch.cat([labelled["bboxes"], more])
            scores = torch.linspace(0.9, 0.5, len(boxes))
            classes = torch.cat([labelled["cls"], torch.zeros(len(more))])
            found.append({"bboxes": boxes, "conf": scores, "cls": classes, "extra": torch.zeros(len(boxes), 0)})
        super().update_metrics(found, batch)


def validate(spec, folder: Path, extra=None, imgsz: int = 96) -> Oracle:
    settings = {"data": str(write_resolved(spec)), "imgsz": imgsz, "plots": False, "rect": True, "batch": 4}
    validator = Oracle(args={**settings, "save_dir": str(folder), "mode": "val"}, save_dir=folder)
    if extra:
        validator.extra = extra
    model = YOLO("yolov5-spd-n.yaml", verbose=False).model
    model.names = spec.names
    validator(model=model)
    return validator


@pytest.mark.parametrize("imgsz", [96, 256, 320])
def test_perfect_detections__score_one_at_any_size(spec, tmp_path, imgsz):
    """The labels themselves, mapped to the network's pixels and back, score AP 1 in every size class."""
    validator = validate(spec, tmp_path, imgsz=imgsz)
    judged = validator.judge(JUDGE)
    assert judged.AP == pytest.approx(1) and judged.AP_S == pytest.approx(1) and judged.AP_M == pytest.approx(1)
    assert validator.result.AP == judged.AP and validator.result.AP_S == judged.AP_S
    assert judged.protocol.ignored > 0


def test_detection_in_a_region__neutral_elsewhere_not(spec, tmp_path):
    """A detection inside an ignored region costs no AP, but detections on empty ground do."""
    annotations = validate(spec, tmp_path / "a").truth
    regions = [a for a in annotations["annotations"] if a["iscrowd"] and a["category_id"] == 1]
    assert regions
    files = {image["id"]: image["file_name"] for image in annotations["images"]}
    by_file = {files[a["image_id"]]: a["bbox"] for a in regions}

    def inside(file: str):
        for name, (x, y, _, _) in by_file.items():
            if file.endswith(name):
                return [[x + 2, y + 2, x + 12, y + 12]]
        return []

    def corner(file: str):
        return [[0, 0, 11, 9]] * 5

    assert validate(spec, tmp_path / "b", inside).judge(JUDGE).AP == pytest.approx(1)
    assert validate(spec, tmp_path / "c", corner).judge(JUDGE).AP < 0.999


def test_ids__follow_names_not_batch_order(spec, tmp_path):
    """Image ids follow the sorted file names, whatever the order of rectangular batches."""
    truth = validate(spec, tmp_path).truth
    names = [image["file_name"] for image in truth["images"]]
    assert names == sorted(names) and [image["id"] for image in truth["images"]] == list(range(1, 7))
    assert all(not Path(name).is_absolute() for name in names)


def test_ids__those_of_a_coco_file(spec, tmp_path):
    """Image and category ids of detections are those of the COCO file, so pycocotools reads both together."""
    categories = tuple(7 * number + 3 for number in spec.names)
    for split in ("train", "val"):
        records = load_split(spec, split).records
        # The ids have ten digits, too many for single precision, and run against the order of the names. Nothing is
        # ignored, because pycocotools handles that differently.
        plain = {"regions": None, "difficult": None}
        records = [replace(r, image_id=4_000_000_001 - place, **plain) for place, r in enumerate(records)]
        save_split("coco", tmp_path / "set", split, records, spec.names, category_ids=categories)
    save_yaml(tmp_path / "set" / "data.yaml", ("train", "val"), spec.names, "coco")
    found = validate(load_spec(tmp_path / "set" / "data.yaml"), tmp_path).detections().records()

    file = COCO(tmp_path / "set" / "annotations" / "val.json")
    assert {row["category_id"] for row in found} <= set(categories) and min(file.getImgIds()) > 2**31
    judge = COCOeval(file, file.loadRes(found), "bbox")
    judge.evaluate()
    judge.accumulate()
    precision = judge.eval["precision"][..., 0, -1]
    assert precision[precision > -1].min() == pytest.approx(1)
