"""Classes are matched by name: as written first, then regardless of case, and never where it is ambiguous."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel
from varied import image, output, varied, write

from pixelkeep.errors import DataError
from pixelkeep.report.conversion import PARTLY, TAKEN
from pixelkeep.ultra.conversion.heads import carry_head, same_classes
from pixelkeep.ultra.conversion.models import convert_model
from pixelkeep.ultra.weights.checkpoints import load, model_of

torch.set_num_threads(1)


def numbered(*names: str) -> dict[int, str]:
    return dict(enumerate(names))


@pytest.mark.parametrize(
    ("known", "wanted", "expected"),
    [
        (["a", "A"], ["a", "A"], [0, 1]),
        (["a", "a"], ["a", "a"], [0, 1]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["a", "A"], ["A"], [1]),
        (["a", "A", "b"], ["a", "A ", "B", "c"], [0, 1, 2, -1]),
        (["Cat", "dog"], ["DOG ", "cat"], [1, 0]),
        (["a"], ["A", "a"], [-1, 0]),
    ],
)
def test_same_classes__exact_names_first(known, wanted, expected):
    """A name that is equal as written is matched before one that differs in case."""
    assert same_classes(numbered(*known), numbered(*wanted)) == expected


@pytest.mark.parametrize(
    ("known", "wanted", "words"),
    [
        (["a", "A"], ["a ", "b"], "'a ' of the data may be 'a', 'A' of the weights"),
        (["a"], ["A", " a"], "'A', ' a' of the data may be 'a' of the weights"),
        (["a", "a"], ["a"], "'a' of the data may be 'a', 'a' of the weights"),
    ],
)
def test_same_classes__refuses_what_may_be_either(known, wanted, words):
    """Where one name may mean several classes, or several names one class, nothing is guessed."""
    with pytest.raises(DataError, match="write the names of classes as the weights have them") as caught:
        same_classes(numbered(*known), numbered(*wanted))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_convert__classes_alike_but_for_case(tmp_path):
    """Without other data every class keeps its own weights, whatever the names of the classes."""
    names = numbered("a", "A", "a ")
    start = varied("yolov5n.yaml", names)
    report = convert_model(write(start, tmp_path / "a.pt"), "yolov5-spdconv-n", tmp_path / "b.pt")
    assert report.exact and report.checked < 1e-9
    end, x = model_of(load(tmp_path / "b.pt")).float(), image(64, 64)
    assert end.names == names and (output(end, x) - output(start.float(), x))[:, 4:].abs().max() < 1e-5


def test_carry_head__each_branch_counts():
    """A head counts as taken whole only if its second branch, the output of end-to-end networks, is taken as well."""
    source, target = (DetectionModel("yolo26n.yaml", nc=2, verbose=False) for _ in range(2))
    names = numbered("a", "b")
    whole, _ = carry_head(source.model[-1], target.model[-1], names, names)
    assert {carried.how for carried in whole} == {TAKEN}
    wider = source.model[-1].one2one_cv2[0][0]
    source.model[-1].one2one_cv2[0][0] = Conv(wider.conv.in_channels, 2 * wider.conv.out_channels, 3)
    report, _ = carry_head(source.model[-1], target.model[-1], names, names)
    assert [(each.how, each.note) for each in report if not each.exact] == [(PARTLY, "different widths")]
    assert report[0].role == "head P3 box"
