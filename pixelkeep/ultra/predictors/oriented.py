"""Ultralytics' predictor of oriented boxes, with this project's image reading, drawing and result records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.models.yolo.obb import OBBPredictor

from pixelkeep.report.oriented_drawing import draw_oriented
from pixelkeep.ultra.network.outputs import empty_inverted
from pixelkeep.ultra.predictors.base import RunPredictor
from pixelkeep.ultra.predictors.boxes import Detections


class OrientedDetections(Detections):
    """One image's oriented detections."""

    def plot(self, line_width: int | None = None, **_: Any) -> np.ndarray:
        """Return the annotated image, (H, W, 3) BGR."""
        found = self.obb.cpu().numpy()
        return draw_oriented(self.picture(), found.xyxyxyxy, found.cls, found.conf, self.names, line_width)

    def found(self) -> Counter:
        """Return the number of objects of each class."""
        return Counter(self.names[int(c)] for c in self.obb.cls)

    def records(self) -> list[dict]:
        """Return a row for each object in COCO results form.

        ``bbox`` is the upright box around the object, ``segmentation`` its four corners, and ``obb`` its centre x, y,
        width, height, and the angle in radians from the x axis towards the y axis.
        """
        found = self.obb.cpu().numpy()
        columns = (found.xyxy, found.xyxyxyxy.reshape(-1, 8), found.xywhr, found.conf, found.cls)
        return [
            {
                "category_id": int(cls) + 1,
                "category": self.names[int(cls)],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "segmentation": [[round(v, 3) for v in corners]],
                "obb": [*(round(v, 3) for v in box[:4]), round(box[4], 6)],
                "score": round(conf, 6),
            }
            for (x1, y1, x2, y2), corners, box, conf, cls in zip(*(part.tolist() for part in columns), strict=True)
        ]

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> None:
        """Write a crop of the upright box around each object; see :meth:`Detections.save_crop`."""
        rows = np.column_stack([part.cpu().numpy() for part in (self.obb.xyxy, self.obb.conf, self.obb.cls)])
        upright = Detections(self.orig_img, path=self.path, names=self.names, boxes=rows.reshape(-1, 6))
        upright.save_crop(save_dir, file_name)


class OrientedPredictor(RunPredictor, OBBPredictor):
    """Detects and draws oriented boxes."""

    def postprocess(self, preds: Any, img: Any, orig_imgs: Any, **keywords: Any) -> list[OrientedDetections]:
        """Set boxes of negative width or height to size 0, and apply NMS."""
        empty_inverted(preds)
        return super().postprocess(preds, img, orig_imgs, **keywords)

    def construct_result(self, pred: Any, img: Any, orig_img: np.ndarray, img_path: str) -> OrientedDetections:
        """Return one image's detections in its own pixels."""
        result = super().construct_result(pred, img, orig_img, img_path)
        return OrientedDetections(orig_img, path=img_path, names=self.model.names, obb=result.obb.data)
