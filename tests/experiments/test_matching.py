"""Baselines at equal cost: widths and image sizes that reach a variant's GFLOPs, and a search that tolerates noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import yaml
from ultralytics.nn.tasks import DetectionModel

from pixelkeep.experiments.matching import TOLERANCE, Baseline, match, near, nearest
from pixelkeep.experiments.widths import scale_of, widen, width_steps
from pixelkeep.ultra.costs.measure import definition_gflops
from pixelkeep.ultra.costs.multiples import Compute, stride_of
from pixelkeep.ultra.network import names

HOSTS = ("yolov5", "yolov8", "yolo11", "yolo26")
CLASSES = 10


def definition(name: str) -> dict:
    return names.parse(name).definition()


def baseline(name: str, size=(640, 640), wide=True) -> Baseline:
    return Baseline(name, definition(name), size, 32, wide)


@pytest.mark.parametrize(
    "host", [pytest.param(host, marks=[pytest.mark.slow] * (host in ("yolov8", "yolo26"))) for host in HOSTS]
)
def test_gflops__of_both_arms_are_the_variants(host, tmp_path):
    """For each host, the widened baseline and the larger image cost what the -spd variant costs, within 3 %.

    GFLOPs are counted again on the model that Ultralytics builds from the file.
    """
    base, variant = baseline(f"{host}-n"), definition(f"{host}-spd-n")
    target = definition_gflops(variant, 640, 3, CLASSES)
    own, found = match(base, Compute((variant, base.size), 3, CLASSES), [])
    assert own == pytest.approx(definition_gflops(base.definition, 640, 3, CLASSES) / target)
    (wider, _), (larger, _) = found
    for arm, ratio in found:
        file = tmp_path / f"{arm.name}.yaml"
        file.write_text(yaml.safe_dump(arm.definition))
        built = DetectionModel(str(file) if arm is wider else f"{host}-n.yaml", 3, CLASSES, verbose=False)
        height, width = arm.size
        counted = definition_gflops(built.yaml, (height, width), 3, CLASSES) / target
        assert abs(counted - 1) <= TOLERANCE and counted == pytest.approx(ratio)
    assert wider.size == (640, 640) and 0.25 < wider.step.width < 0.5
    assert larger.definition == base.definition and larger.size[1] - larger.size[0] in (0, 32)


@pytest.mark.parametrize("name", [f"{host}-{scale}" for host in HOSTS for scale in "nl"])
def test_steps__hold_the_model_itself_and_its_sizes(name):
    """A step at the definition's own width gives the same network; each next step widens one number of channels."""
    given = definition(name)
    letter, depth, width, cap = scale_of(given)
    steps = width_steps(given, width + 0.1)
    (same,) = [step for step in steps if step.width == width]
    made = widen(given, same)
    assert (made["backbone"], made["head"]) == (given["backbone"], given["head"])
    assert made["scales"] == {letter: [depth, width, cap]}
    for one, other in pairwise(steps):
        rises = [other.channels[c] - one.channels[c] for c in one.channels]
        assert sorted(rises) == [0] * (len(rises) - 1) + [8] and other.width > one.width


def test_steps__are_within_8_channels_of_the_multiple():
    """Between two widths of Ultralytics, channels are rounded up or down to a multiple of 8, and no further."""
    given = definition("yolov8-m")  # at most 768 channels, so that not all numbers are powers of two
    for step in width_steps(given, 1.2):
        assert all(abs(channels - number * step.width) <= 8 + 1e-2 for number, channels in step.channels.items())


@pytest.mark.parametrize("name", ["yolov8-m", "yolo11-s", "yolov5-slicesamp-n"])
def test_widen__gives_the_channels_of_the_step(name):
    """The widened network is built with the channels of the step, after Ultralytics' own rounding."""
    given = definition(name)
    cap = scale_of(given)[3]
    for step in width_steps(given, scale_of(given)[2] * 1.2)[-7:]:
        made = widen(given, step)
        rows, built = given["backbone"], DetectionModel({**made, "nc": 2}, 3, verbose=False).model
        for index in (0, 1, 3, 5):  # convolutions of the backbone, in all three families
            (number, *_) = rows[index][3] or [None]
            if rows[index][2] == "Conv":
                assert built[index].conv.out_channels == step.channels[min(number, cap)]


def test_match__a_variant_that_costs_as_much_needs_no_arms():
    """No arm is added for the baseline itself, which costs exactly as much."""
    base = baseline("yolov5-n", (64, 64))
    assert match(base, Compute(base.network, 3, CLASSES), []) == (1.0, [])


def test_match__a_cheaper_variant_gets_a_narrower_baseline():
    """For a cheaper variant one arm is the baseline made narrower, and the other the baseline on smaller images."""
    base, variant = baseline("yolov5-s"), definition("yolov5-n")
    own, ((narrow, one), (small, other)) = match(base, Compute((variant, base.size), 3, CLASSES), [])
    assert own > 3 and near(one) and near(other)
    assert narrow.step.width == 0.25 and one == 1.0  # yolov5-n is yolov5-s of half the width
    assert small.size[0] < 640


def test_match__arms_serve_several_variants():
    """An arm of another variant is reused if it costs as much, and not if it costs 10 % more."""
    base = baseline("yolov5-n", (320, 320))
    variant = definition("yolov5-spd-n")
    cost = Compute((variant, base.size), 3, CLASSES)
    _, first = match(base, cost, [])
    _, again = match(base, cost, [arm for arm, _ in first])
    assert [arm.name for arm, _ in again] == [arm.name for arm, _ in first]
    others = [base.of_size((448, 448)), *[base.of_width(s) for s in width_steps(base.definition, 0.4)[-1:]]]
    _, fresh = match(base, cost, others)
    assert [arm.name for arm, _ in fresh] == [arm.name for arm, _ in first]


@pytest.mark.parametrize(("base_size", "size"), [((320, 320), (320, 352)), ((256, 320), (256, 352))])
def test_sizes__keep_the_shape_of_the_other_arms(base_size, size):
    """The nearest size is one stride longer on one side, though a long rectangle would cost exactly as much."""
    base = baseline("yolov5-n", base_size)
    exact = base_size[0] * base_size[1] * 1.05

    class Pixels:
        def ratio(self, network):
            return network[1][0] * network[1][1] / exact

        def settle(self, networks):
            return [self.ratio(network) for network in networks]

    assert [arm.size for arm, _ in match(base, Pixels(), [])[1] if arm.step is None] == [size]


def test_sizes__that_cannot_be_hit_come_as_near_as_they_can():
    """At 64 pixels the nearest to 1.3 times the compute is 1.5 times, which is taken and reported with its multiple."""
    base = baseline("yolov5-n", (64, 64))

    class Pixels:
        def __init__(self, times):
            self.times = times

        def ratio(self, network):
            return network[1][0] * network[1][1] / 4096 / self.times

        def settle(self, networks):
            return [self.ratio(network) for network in networks]

    found = [(arm.size, ratio) for arm, ratio in match(base, Pixels(1.3), [])[1] if arm.step is None]
    assert found == [((64, 96), pytest.approx(1.5 / 1.3))]
    assert not [arm for arm, _ in match(base, Pixels(1.1), [])[1] if arm.step is None]  # the baseline itself is nearer


def test_nearest__passes_over_what_cannot_be_built():
    """Steps without a cost are skipped, and the two on either side of 1 are still found."""
    costs = [0.2, None, 0.5, None, 0.9, None, None, 1.2, 1.4, None, 3.0]
    found = nearest(range(len(costs)), lambda place: costs[place])
    assert found[4] == 0.9 and found[7] == 1.2 and None not in found.values()
    assert nearest([0, 1], lambda place: None) == {}
    assert set(nearest(range(100), lambda place: place / 50.5)) >= {50, 51}


def test_noise__ends_with_what_was_measured_anew():
    """A search over noisy measurements ends within the noise of the right width, and reports the settled multiple."""
    rng = np.random.default_rng(0)
    base, variant = baseline("yolov5-n", (256, 256)), definition("yolov5-spd-n")
    exact = Compute((variant, base.size), 3, CLASSES)

    class Noisy:
        def ratio(self, network):
            return exact.ratio(network) * np.exp(rng.normal(0, 0.02))

        settle = staticmethod(exact.settle)

    for _ in range(2):
        _, found = match(base, Noisy(), [])
        for arm, ratio in found:
            assert ratio == exact.ratio(arm.network) and abs(ratio - 1) < 0.12


def test_stride__of_the_network():
    """The stride of the four hosts is 32."""
    assert [stride_of(definition(f"{host}-n"), 3, 2) for host in HOSTS] == [32] * 4
