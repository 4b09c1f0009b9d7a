"""Proves metrics by file name: each value's are those of its images alone, and unmatched names are counted."""

import pytest

from pixelkeep.errors import OptionError
from pixelkeep.evaluation import Breakdown, GroundTruthBuilder, evaluate

FILES = ("a/day_100.jpg", "a/day_60.jpg", "b/night_60.jpg", "b/night_100.jpg", "b/unknown.jpg")


@pytest.fixture
def scene():
    """A scene with one object an image; day images are detected correctly, night images also have a false positive."""
    builder, found = GroundTruthBuilder(["thing"]), []
    for image, file in enumerate(FILES, start=1):
        builder.add_image(file, 640, 480, [[0, 0, 20, 20 if image < 4 else 90]], [0])
        if "night" in file:
            found.append({"image_id": image, "category_id": 1, "bbox": [200, 200, 20, 20], "score": 0.9})
        found.append({"image_id": image, "category_id": 1, "bbox": [0, 0, 20, 20 if image < 4 else 90], "score": 0.5})
    return builder.build(), found


@pytest.mark.parametrize("pattern", [r"(day|night)_\d+", r"(?P<time>day|night)", "^(day|night)", "day|night"])
def test_values__by_group_name_or_match(pattern, scene):
    """Values are a group, a named group or the whole match, searched in the file name without its folder."""
    by = evaluate(*scene, by=pattern).by
    assert (list(by.values), by.unmatched, by.regex) == (["day", "night"], 1, pattern)
    assert by.name == ("time" if "time" in pattern else None)
    assert [part.images for part in by.values.values()] == [2, 2]
    assert by.values["day"].AP == pytest.approx(1.0) and by.values["night"].AP < 0.6
    assert by.values["day"].counts == {"S": 2, "M": 0, "L": 0} and by.values["night"].counts == {"S": 1, "M": 1, "L": 0}


def test_numbers__stand_in_their_order(scene):
    """Numeric values are sorted as numbers."""
    assert list(evaluate(*scene, by=r"_(\d+)").by.values) == ["60", "100"]


def test_folder__with_a_slash_in_the_pattern(scene):
    """A pattern that contains a slash is searched in the whole path."""
    by = evaluate(*scene, by="^(.)/").by
    assert [part.images for part in by.values.values()] == [2, 3] and by.unmatched == 0


@pytest.mark.parametrize("match", ["iou", "center:3"])
@pytest.mark.parametrize("bins", [None, "visdrone"])
@pytest.mark.parametrize("seed", [100, 103, 106])
def test_part__equals_an_evaluation_of_its_images(seed, bins, match, random_scene):
    """Each value's metrics are those of a ground truth of its images alone, with the detection limit of the whole."""
    ground_truth, detections = random_scene(seed, objects_to_ignore=True)
    whole = evaluate(ground_truth, detections, by=r"(\d)\.jpg", bins=bins, match=match)
    for value, part in whole.by.values.items():
        images = [i for i in ground_truth["images"] if i["file_name"] == f"{value}.jpg"]
        alone = {
            **ground_truth,
            "images": images,
            "annotations": [a for a in ground_truth["annotations"] if a["image_id"] == images[0]["id"]],
        }
        found = [d for d in detections if d["image_id"] == images[0]["id"]]
        expected = evaluate(alone, found, max_dets=whole.protocol.max_dets, bins=bins, match=match)
        assert (part.AP, part.AP50, part.AP_S) == (expected.AP, expected.AP50, expected.AP_S)
        assert (part.images, part.counts) == (1, expected.counts)


def test_one_value__equals_the_whole(scene):
    """A pattern that gives one value for every name gives the metrics of the whole."""
    result = evaluate(*scene, by=r"jpg$")
    (part,) = result.by.values.values()
    assert (part.AP, part.AP50, part.AP_S, part.counts) == (result.AP, result.AP50, result.AP_S, result.counts)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(dusk)", "by '(dusk)' matches none of 5 file names, such as a/day_100.jpg"),
        ("(day", "by '(day' is not a regular expression: missing ), unterminated subpattern at position 0"),
    ],
)
def test_pattern__that_cannot_be_used(pattern, text, scene):
    """A pattern without any match and an invalid regular expression are refused in one line."""
    with pytest.raises(OptionError) as error:
        evaluate(*scene, by=pattern)
    assert str(error.value) == text


def test_group_without_part_in_the_match__does_not_match():
    """An optional group that took no part in the match gives no value."""
    assert Breakdown("day(_x)?").value("day.jpg") is None
    assert Breakdown("day(_x)?").value("day_x.jpg") == "_x"
