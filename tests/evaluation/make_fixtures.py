"""Writes fixtures/*.json, small scenes that each hold one pitfall of evaluation. Usage: python make_fixtures.py

Each file holds {"ground_truth": COCO document, "detections": COCO results}. Uses the standard library alone, so
that the files can be reproduced anywhere, number for number.
"""

import json
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent / "fixtures"


def scene(images, classes, annotations, detections):
    """Return one fixture; annotations and detections are (image, category, bbox, further keys or score)."""
    return {
        "ground_truth": {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
            "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
            "annotations": [
                {
                    "id": number,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    **more,
                }
                for number, (image, category, box, more) in enumerate(annotations, start=1)
            ],
        },
        "detections": [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in detections
        ],
    }


def near(box, random, spread=0.15):
    """Return the box with each number changed by up to ``spread`` of its side."""
    x, y, width, height = box
    shift = [round(random.uniform(-spread, spread), 3) for _ in range(4)]
    return [x + shift[0] * width, y + shift[1] * height, width * (1 + shift[2]), height * (1 + shift[3])]


def row(count, side, top=0):
    """Return ``count`` boxes side by side."""
    return [[10 + index * (side + 4), top, side, side] for index in range(count)]


def found(boxes, image, category, random, start=0.9):
    """Return a detection near each box, with scores that fall from ``start``."""
    return [(image, category, near(box, random), round(start - 0.01 * i, 3)) for i, box in enumerate(boxes)]


def regions():
    """Return regions in both classes of image 1, with detections inside, half inside and outside, and real objects."""
    random = Random(1)
    boxes, region = row(4, 20), [300, 200, 200, 200]
    inside = [[310 + 30 * i, 230, 25, 25] for i in range(5)]
    half = [[290 + 2 * i, 300, 20, 20] for i in range(5)]
    annotations = [(1, 1 + i % 2, box, {}) for i, box in enumerate(boxes)]
    annotations += [(1, category, region, {"iscrowd": 1}) for category in (1, 2)]
    detections = [(1, 1 + i % 2, near(box, random), 0.6 - 0.05 * i) for i, box in enumerate(boxes)]
    detections += [(1, 1, box, 0.9) for box in inside] + [(1, 2, box, 0.55 + 0.01 * i) for i, box in enumerate(half)]
    return scene(2, 2, annotations, [*detections, (2, 1, [5, 5, 40, 40], 0.4)])


def difficult():
    """Return objects to ignore, each found twice, and one that competes with a counted object."""
    random = Random(2)
    boxes = row(6, 30)
    annotations = [(1, 1, box, {"ignore": i % 2}) for i, box in enumerate(boxes)]
    annotations += [(2, 1, [50, 50, 40, 40], {}), (2, 1, [54, 50, 40, 40], {"ignore": 1})]
    detections = found(boxes, 1, 1, random) + found(boxes, 1, 1, random, 0.8)
    return scene(2, 1, annotations, [*detections, (2, 1, [54, 50, 40, 40], 0.7), (2, 1, [53, 50, 40, 40], 0.6)])


def annotation_area():
    """Return boxes of 40 x 40 whose mask covers 600 pixels: small by annotation, medium by box."""
    random = Random(3)
    boxes = row(6, 40)
    annotations = [(1, 1, box, {"area": 600.5 if i % 2 else 1600.0}) for i, box in enumerate(boxes)]
    return scene(1, 1, annotations, found(boxes, 1, 1, random))


def border_sizes():
    """Return boxes of exactly 2, 8, 16, 32, 64 and 96 pixels: each border belongs to both ranges."""
    boxes = [[20, 100 * i, side, side] for i, side in enumerate((2, 8, 16, 32, 64, 96))]
    detections = [(1, 1, box, 0.9 - 0.1 * i) for i, box in enumerate(boxes)]
    detections += [(1, 1, [300, 300, side, side], 0.95) for side in (2, 8, 16, 32, 64, 96)]
    return scene(1, 2, [(1, 1, box, {}) for box in boxes], detections)


def no_small():
    """Return medium and large objects only."""
    boxes = [[10, 10, 60, 60], [100, 100, 200, 200], [400, 20, 80, 50]]
    return scene(1, 1, [(1, 1, box, {}) for box in boxes], found(boxes, 1, 1, Random(5)))


def crowded():
    """Return 40 objects and 340 detections in one image and class, above COCO's 100 and the limit of 300."""
    random = Random(6)
    boxes = [[20 + 60 * (i % 8), 20 + 60 * (i // 8), 12 + i, 12 + i] for i in range(40)]
    detections = [(1, 1, near(boxes[i % 40], random, 0.3), round(random.random(), 2)) for i in range(340)]
    return scene(2, 1, [(1, 1, box, {}) for box in boxes], detections)


def annotation_id_zero():
    """Return a user's file: all ids count from 0, iscrowd and area are absent, and everything is found exactly."""
    boxes = row(3, 25)
    made = scene(1, 1, [(1, 1, box, {}) for box in boxes], [(1, 1, box, 0.9) for box in boxes])
    truth = made["ground_truth"]
    for record in (*truth["images"], *truth["categories"], *truth["annotations"]):
        record["id"] -= 1
    for record in (*truth["annotations"], *made["detections"]):
        record["image_id"], record["category_id"] = 0, 0
    for annotation in truth["annotations"]:
        del annotation["iscrowd"], annotation["area"]
    return made


SCENES = (regions, difficult, annotation_area, border_sizes, no_small, crowded, annotation_id_zero)


def texts():
    """Return the fixtures as {file name: text}."""
    return {f"{make.__name__}.json": json.dumps(make(), separators=(",", ":")) + "\n" for make in SCENES}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
