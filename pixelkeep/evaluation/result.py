"""The schema of results: what ``--json`` prints, ``metrics.json`` holds and ``evaluate`` returns.

Fractions run from 0 to 1. A figure that is undefined for lack of ground truth is None (null in JSON), never -1 or 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pixelkeep.errors import DataError, choices

SCHEMA = 1
LATER = {"later": True}  # marks keys added after schema 1 was first written: documents without them can still be read


@dataclass(kw_only=True)
class Protocol:
    """How the figures were measured; None where unknown.

    evaluator: "pixelkeep", "pycocotools" or "faster-coco-eval"; the figures are equal.
    match: measure by which boxes match: "iou", "nwd" or "center:K", see `similarity`.
    bins: size bins, and the rules that go with them, that were asked for: "aitod", "visdrone", or the borders; None if
        none were.
    imgsz: side in pixels of the images given to the model, or [height, width].
    conf: lowest score of a detection.
    nms_iou: IoU above which non-maximum suppression drops the lower score.
    max_dets: cap on the detections of one image, and in the evaluator on those of one class in one image (of all
        classes together with the bins of visdrone).
    area: where S, M and L come from: "annotation" if the area of an object that is not ignored differs from its box's,
        else "box".
    ignored: number of regions to ignore, each counted once even if listed for several classes, plus objects to ignore.
    tile: tiling of large images.
    precision: number format of the model, such as "fp32".
    folded: whether SpaceToDepth and the convolution after it ran as one strided convolution.
    device: device that the model ran on. seed: seed of its training.
    format: "pytorch", or the format of an exported file, such as "onnx".
    """

    evaluator: str | None = None
    imgsz: int | list[int] | None = None
    conf: float | None = None
    nms_iou: float | None = None
    max_dets: int | None = None
    area: str | None = None
    ignored: int | None = None
    tile: Any = None
    precision: str | None = None
    folded: bool | None = None
    device: str | None = None
    seed: int | None = None
    match: str | None = field(default=None, metadata=LATER)
    bins: str | None = field(default=None, metadata=LATER)
    format: str | None = field(default=None, metadata=LATER)


@dataclass(kw_only=True)
class BinFigures:
    """One size bin: ``gt`` counted boxes with sqrt(area) in [low, high] pixels; AP, AP50 and AR as in `Result`."""

    name: str
    low: float
    high: float
    gt: int
    AP: float | None
    AP50: float | None
    AR: float | None


@dataclass(kw_only=True)
class ClassFigures:
    """One class: ``gt`` counted boxes; AP, AP50 and AP_S as in `Result`, of this class alone."""

    AP: float | None
    AP50: float | None
    AP_S: float | None
    gt: int


@dataclass(kw_only=True)
class Alarms:
    """Detected objects and false alarms among detections of one confidence or more.

    Matching is by the protocol's measure at its lowest threshold.

    conf: the confidence. gt: number of counted boxes. found: number of these that have a detection. Pd: found / gt.
    Pd_S: Pd of small boxes alone. false: detections that match nothing and lie in no region to ignore.
    per_image, per_megapixel: ``false`` divided by all images, including those without objects, or by 1e6 pixels of the
        original images; per_megapixel is None if the size of an image is unknown.
    """

    conf: float
    Pd: float | None
    Pd_S: float | None
    found: int
    gt: int
    false: int
    per_image: float
    per_megapixel: float | None


@dataclass(kw_only=True)
class PartFigures:
    """Figures of a part of the images: their number, and AP, AP50, AP_S and counts as in `Result` for them alone."""

    images: int
    AP: float | None
    AP50: float | None
    AP_S: float | None
    counts: dict[str, int]


@dataclass(kw_only=True)
class By:
    """Figures by what ``regex`` finds in the file names.

    name: name of the expression's first named group, or None. unmatched: number of images left out.
    values: figures by the text that was found.
    """

    regex: str
    name: str | None
    unmatched: int
    values: dict[str, PartFigures]


@dataclass(kw_only=True)
class Result:
    """Figures of one evaluation.

    schema: 1. task: "detect".
    model, weights: what was evaluated. data, split: what it was evaluated on.
    gt_sha256: hash of the ground truth (`sha256`). images: number of images in it.
    protocol: how the figures were measured.
    AP: mean precision over 10 IoU thresholds (0.50, 0.55 ... 0.95), 101 recalls (0, 0.01 ... 1) and the classes that
        have ground truth; precision at recall r is the greatest TP / (TP + FP) at any recall >= r, 0 if none.
    AP50, AP75: AP at IoU 0.50 and 0.75 alone; None where the match is by distance, which has only one threshold.
    AP_S, AP_M, AP_L: AP with ground truth of area 0 to 32**2, 32**2 to 96**2, 96**2 and more, in square pixels of the
        original image; other ground truth is ignored, and so are unmatched detections of other area.
    AP50_S: AP_S at IoU 0.50 alone. AP_100: AP with the best 100 detections of each class in each image.
    AR: mean over thresholds and classes of TP / ground truth, with all detections up to ``max_dets``. AR_S, AR_M,
        AR_L: AR by area.
    counts: ground-truth boxes by "S", "M", "L", without ignored ones; areas of exactly 32**2 and 96**2 count on both
        sides.
    bins: figures of finer size bins. per_class: figures by class name, with the id appended to names that repeat.
    voc: Pascal VOC's AP at IoU 0.50, "AP50_11" at 11 recalls and "AP50_area" under the curve, or None.
    params: number of parameters of the model. gflops: 1e9 floating point operations per image.
    speed_ms: milliseconds per image by phase: "preprocess", "inference", "postprocess".
    operating_point: confidences and the figures at them, in the form of `operating.OperatingPoint`, or None.
    active_fraction: for layers whose work depends on the image, the mean share of active regions on these images, which
        ``gflops`` is computed for; None for models without such layers.
    AP25: AP at IoU 0.25 alone. alarms: Pd and false alarms. by: figures by file name. None where not asked for.
    """

    schema: int = SCHEMA
    task: str = "detect"
    model: str | None = None
    weights: str | None = None
    data: str | None = None
    gt_sha256: str | None = None
    split: str | None = None
    images: int | None = None
    protocol: Protocol = field(default_factory=Protocol)
    AP: float | None = None
    AP50: float | None = None
    AP75: float | None = None
    AP_S: float | None = None
    AP_M: float | None = None
    AP_L: float | None = None
    AP50_S: float | None = None
    AP_100: float | None = None
    AR: float | None = None
    AR_S: float | None = None
    AR_M: float | None = None
    AR_L: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    bins: list[BinFigures] = field(default_factory=list)
    per_class: dict[str, ClassFigures] = field(default_factory=dict)
    voc: dict[str, float | None] | None = None
    params: int | None = None
    gflops: float | None = None
    speed_ms: dict[str, float] | None = None
    AP25: float | None = field(default=None, metadata=LATER)
    alarms: Alarms | None = field(default=None, metadata=LATER)
    by: By | None = field(default=None, metadata=LATER)
    operating_point: dict[str, Any] | None = field(default=None, metadata=LATER)
    active_fraction: float | None = field(default=None, metadata=LATER)

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain dictionaries and lists, keys in the order of the schema."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the document as JSON text. A figure that is NaN or infinite raises ValueError."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Result:
        """Return the result from a document that `to_dict` returned.

        Errors: DataError for another schema and for missing or unknown keys.
        """
        if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
            found = document.get("schema") if isinstance(document, Mapping) else document
            raise DataError(f"result has schema {found!r}; expected {SCHEMA}")
        result = _build(cls, document, "result")
        for key, kind, expected in (("bins", list, "a list"), ("per_class", Mapping, "an object")):
            if not isinstance(document[key], kind):
                raise DataError(f"result has {key} {document[key]!r}; expected {expected}")
        result.protocol = _build(Protocol, result.protocol, "protocol")
        result.bins = [_build(BinFigures, values, f"bins[{index}]") for index, values in enumerate(result.bins)]
        result.per_class = {
            name: _build(ClassFigures, values, f"per_class['{name}']") for name, values in result.per_class.items()
        }
        if result.alarms is not None:
            result.alarms = _build(Alarms, result.alarms, "alarms")
        if result.by is not None:
            result.by = _build(By, result.by, "by")
            if not isinstance(result.by.values, Mapping):
                raise DataError(f"by has values {result.by.values!r}; expected an object")
            result.by.values = {
                name: _build(PartFigures, part, f"by['{name}']") for name, part in result.by.values.items()
            }
        return result


def _build(kind: type, values: Any, where: str) -> Any:
    """Return an instance of ``kind`` with the fields from ``values``; fields marked as later may be missing."""
    expected = [f.name for f in fields(kind)]
    later = {f.name for f in fields(kind) if f.metadata.get("later")}
    if not isinstance(values, Mapping):
        raise DataError(f"{where} is {values!r}; expected an object with {choices(expected)}")
    for problem, keys in (("lacks", set(expected) - set(values) - later), ("has unknown", set(values) - set(expected))):
        if keys:
            raise DataError(f"{where} {problem} {choices(sorted(keys))}; expected {choices(expected, len(expected))}")
    return kind(**values)
