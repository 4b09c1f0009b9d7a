"""Proves that built and loaded ground truth follows the evaluator's format, and that faults in it are named."""

import json

import numpy as np
import pytest

from pixelkeep.errors import DataError
from pixelkeep.evaluation import GroundTruthBuilder, density, detection_limit, normalise, sha256


@pytest.fixture
def plain():
    """A user's COCO file: ids count from 0, and iscrowd, area and ignore are absent."""
    return {
        "info": {"year": 2024},
        "images": [{"id": 0, "file_name": "a.jpg", "width": 64, "height": 48, "license": 3}],
        "categories": [{"id": 0, "name": "ant", "supercategory": "insect"}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4]}],
    }


def built(**more):
    builder = GroundTruthBuilder(["ant", "bee"])
    builder.add_image("a.jpg", 64, 48, [[1, 2, 4, 6], [0, 0, 8, 8]], [1, 0], **more)
    return builder.build()


def test_builder__writes_the_contract():
    """Annotation ids count from 1, category ids are class index + 1, boxes become x, y, width, height."""
    assert built(ignore=[0, 1]) == {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "ignore": 0},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 8, 8], "area": 64, "iscrowd": 0, "ignore": 1},
        ],
    }


def test_builder__keeps_areas_of_the_source():
    """Given areas replace width times height."""
    assert [a["area"] for a in built(areas=[7.5, 30])["annotations"]] == [7.5, 30.0]


def test_builder__copies_regions_into_every_class():
    """A region becomes one crowd annotation per class."""
    regions = built(regions=[[10, 10, 20, 30]])["annotations"][2:]
    assert [(a["category_id"], a["iscrowd"], a["ignore"]) for a in regions] == [(1, 1, 1), (2, 1, 1)]
    assert all(a["bbox"] == [10, 10, 10, 20] and a["area"] == 200 for a in regions)


def test_builder__takes_arrays_and_empty_images():
    """NumPy columns of any number type and images without boxes give plain JSON."""
    builder = GroundTruthBuilder(["ant"])
    builder.add_image("a.jpg", np.int64(9), 9, np.float32([[0, 0, 2, 2]]), np.array([0]), image_id=np.int64(40))
    builder.add_image("b.jpg", 9, 9, [], [])
    builder.add_image("c.jpg", 9, 9, np.zeros((0, 4)), np.zeros(0), regions=np.zeros((0, 4)))
    document = json.loads(json.dumps(builder.build()))
    assert [image["id"] for image in document["images"]] == [40, 2, 3]
    assert len(document["annotations"]) == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"boxes": [[0, 0, 1]]}, "boxes have shape (1, 3); expected (n, 4)"),
        ({"boxes": [[0, 0, 1, 1], [5, 0, 1, 1]]}, "boxes[1] is [5.0, 0.0, 1.0, 1.0]; expected finite x1 <= x2"),
        ({"boxes": [[0, 0, float("inf"), 1]]}, "boxes[0] is [0.0, 0.0, inf, 1.0]; expected finite"),
        ({"boxes": [["a", 0, 1, 1]]}, "boxes are not numbers"),
        ({"classes": [0, 0]}, "classes have shape (2,); expected (1,), one per box"),
        ({"classes": [2]}, "class index 2; expected 0 to 1"),
        ({"classes": [0.5]}, "class index 0.5; expected 0 to 1"),
        ({"areas": [1, 2]}, "areas have shape (2,)"),
        ({"regions": [[0, 0, -1, 1]]}, "regions[0] is [0.0, 0.0, -1.0, 1.0]"),
        ({"image_id": "x"}, "image id 'x'; expected an integer"),
        ({"image_id": 5}, "image id 5 is taken by a.jpg"),
    ],
)
def test_builder__names_the_fault(arguments, text):
    """An invalid value is refused with the file and the record named, and the builder stays unchanged."""
    builder = GroundTruthBuilder(["ant", "bee"])
    builder.add_image("a.jpg", 9, 9, [], [], image_id=5)
    before = builder.build()
    with pytest.raises(DataError) as error:
        builder.add_image("b.jpg", 9, 9, **{"boxes": [[0, 0, 1, 1]], "classes": [0], **arguments})
    assert str(error.value).startswith("b.jpg: ") and text in str(error.value)
    assert builder.build() == before


def test_builder__needs_names():
    """A ground truth without class names is refused."""
    with pytest.raises(DataError, match="no class names"):
        GroundTruthBuilder([])


def test_normalise__completes_a_plain_file(plain):
    """Annotation ids count from 1, area, iscrowd and ignore are filled in, image and category ids stay."""
    assert normalise(plain) == {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 64, "height": 48}],
        "categories": [{"id": 0, "name": "ant"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "ignore": 0}
        ],
    }


def test_normalise__keeps_area_and_crowd(plain):
    """The file's area and iscrowd are kept, and a crowd is marked as ignored."""
    plain["annotations"][0] |= {"area": 5, "iscrowd": 1}
    (annotation,) = normalise(plain)["annotations"]
    assert (annotation["area"], annotation["iscrowd"], annotation["ignore"]) == (5.0, 1, 1)


def test_normalise__twice_changes_nothing(plain):
    """Normalising what build or normalise returned changes nothing."""
    for ground_truth in (built(ignore=[0, 1], regions=[[0, 0, 9, 9]]), normalise(plain)):
        assert normalise(ground_truth) == ground_truth


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.pop("images"), "has no 'images'; expected a list"),
        (lambda d: d.pop("categories"), "has no 'categories'; expected a list"),
        (lambda d: d.pop("annotations"), "has no 'annotations'; expected a list"),
        (lambda d: d.update(images=[]), "'images' is empty; expected at least one"),
        (lambda d: d.update(categories={}), "has categories {}; expected a list"),
        (lambda d: d["images"].append({"id": 0}), "images[1] repeats id 0"),
        (lambda d: d["images"].append({}), "images[1] has no 'id'; expected an integer"),
        (lambda d: d["images"].append({"id": "b"}), "images[1] has id 'b'; expected an integer"),
        (lambda d: d["categories"].append({"id": 0}), "categories[1] repeats id 0"),
        (lambda d: d["categories"][0].pop("name"), "category 0 has no 'name'; expected text"),
        (lambda d: d["annotations"].append(None), "annotations[1] is None; expected an object"),
        (lambda d: d["annotations"][0].pop("bbox"), "annotations[0] has no 'bbox'; expected [x, y, width, height]"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, 3]), "annotations[0] has bbox [1, 2, 3]; expected [x, y,"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4]), "annotations[0] has bbox [1, 2, -3, 4]"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, "3", 4]), "annotations[0] has bbox [1, 2, '3', 4]"),
        (lambda d: d["annotations"][0].update(area=float("nan")), "annotations[0] has area nan; expected square"),
        (lambda d: d["annotations"][0].update(area=-1), "annotations[0] has area -1; expected square pixels"),
        (lambda d: d["annotations"][0].update(image_id=3), "annotations[0] names image_id 3; expected an id from"),
        (lambda d: d["annotations"][0].update(category_id=3), "annotations[0] names category_id 3; expected an id"),
    ],
)
def test_normalise__names_the_fault(change, text, plain):
    """A fault is reported in one line with its place in the file, the value and what would be right."""
    change(plain)
    with pytest.raises(DataError) as error:
        normalise(plain)
    assert text in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", b"\xff\xfe"])
def test_path__that_holds_no_ground_truth_is_named(content, tmp_path):
    """A file that is missing, is not JSON or is not an object is refused with its path."""
    path = tmp_path / "truth.json"
    with pytest.raises(DataError, match=r"truth\.json: No such file or directory; expected a JSON file"):
        normalise(path)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"truth\.json is .*; expected "):
        normalise(path)


def test_sha256__depends_on_content_alone(plain):
    """The hash ignores key order, integers for floats and extra keys, but not a changed area."""
    turned = json.loads(json.dumps(normalise(plain), sort_keys=True))
    assert sha256(turned) == sha256(plain)
    turned["annotations"][0]["area"] += 1e-9
    assert sha256(turned) != sha256(plain)


def test_sha256__is_frozen():
    """The hash of a given ground truth never changes between versions, because results refer to it."""
    assert sha256(built()) == "8fc7911f745629be355aa14d03a1f1b5cc6fe05aaef0c0941d9f0668c2bde575"


def test_density__leaves_out_what_is_ignored():
    """The density is that of the densest image, without regions and objects to ignore."""
    builder = GroundTruthBuilder(["ant"])
    builder.add_image("a.jpg", 9, 9, [[0, 0, 1, 1]] * 150, [0] * 150, ignore=[1] * 45 + [0] * 105)
    builder.add_image("b.jpg", 9, 9, [[0, 0, 1, 1]] * 104, [0] * 104, regions=[[0, 0, 9, 9]] * 9)
    assert (density(builder.build()), detection_limit(builder.build())) == (105, 315)


def test_detection_limit__is_at_least_300(plain):
    """Sparse and empty data keep the limit of 300 detections per image."""
    plain["annotations"] = []
    assert (density(plain), detection_limit(plain)) == (0, 300)
