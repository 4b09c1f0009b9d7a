"""The advice in doctor's document, derived from the object sizes of a dataset, and the figures it is based on."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pixelkeep.datasets.doctor import advice, recommendations
from pixelkeep.datasets.doctor.sizes import Size
from pixelkeep.ultra.costs.measure import count_gflops
from pixelkeep.ultra.costs.memory import Probe
from pixelkeep.ultra.network import names
from pixelkeep.ultra.weights.checkpoints import is_checkpoint

if TYPE_CHECKING:
    from pixelkeep.ultra.doctor.document import Case

USUAL, BINS = 8, 16  # usual stride of the finest level, in pixels; usual number of bins of a box distance
P2 = 4  # pixels, the stride of a P2 head's finest level


def advise(case: Case) -> dict[str, Any]:
    """Return the document's advice, and the choices, tiles and memory that it is based on."""
    longer = np.concatenate([own.sides.max(1) for own in case.objects.values()])
    images = [(record.height, record.width) for split in case.splits.values() for record in split.records]
    here = advice.reached(case.shown, case.goal)
    choices = [_choice(case, case.strides[0], case.model, case.probe)]
    fine = _finer(case) if case.strides[0] > P2 else None
    if fine is not None:
        choices.append(_choice(case, P2, *fine, least=case.size))
    tiles = advice.tiling(case.original, longer, images, case.size, case.goal)
    said = [recommendations.on_size(case.size, here, choices, tiles)]
    if fine is not None:
        fine_here = advice.reached(case.shown, choices[1].goal)
        said.append(recommendations.on_head(case.size, here, choices[1], fine_here))
    if _begins_large(case):
        under = float((case.shown < 2 * case.strides[0]).mean())
        said.append(recommendations.on_boxes(under, case.strides[0], case.size))
    probes = [case.probe] if fine is None else [case.probe, fine[1]]
    memory, amounts = _memory(case, list(zip(choices, probes, strict=True)) if here < advice.SHARE else [])
    said = [item for item in said if item is not None]
    said.append(recommendations.on_memory(amounts, case.batch))
    return {
        "advice": [asdict(item) for item in said],
        "choices": [asdict(choice) for choice in choices],
        "tiles": asdict(tiles),
        "memory": memory,
    }


def _choice(case: Case, stride: int, model: str | None, probe: Probe | None, least: Size = (0, 0)) -> advice.Choice:
    """Return the cheapest input size, not below ``least``, for a head whose finest level has stride ``stride``."""
    goal = advice.goal_for(stride)
    size = advice.cheapest_size(case.size, advice.needed_factor(case.shown, goal), max(case.strides))
    size = tuple(max(sides) for sides in zip(size, least, strict=True))
    share = advice.reached(case.shown, goal, advice.enlargement(case.size, size))
    gflops = None if probe is None else round(count_gflops(probe.network, size, case.spec.channels), 3)
    return advice.Choice(advice.head_name(stride), model, goal, size, share, gflops)


def _finer(case: Case) -> tuple[str | None, Probe | None]:
    """Return the model of the same family and scale with a P2 head, and its probe; None for both if there is none."""
    own = names.parse(case.model)
    sibling = own and names.parse(f"{own.family}-p2-{own.scale}")
    if not sibling:
        return None, None
    return str(sibling), Probe(sibling.definition(), case.spec.channels, len(case.spec.names))


def _begins_large(case: Case) -> bool:
    """Return whether training starts with a new head whose first boxes have sides of 15 cells of 8 pixels."""
    head = case.probe.network.model[-1]
    return not is_checkpoint(case.model) and getattr(head, "reg_max", 1) == BINS and case.strides[0] == USUAL


def _memory(case: Case, advised: list[tuple[advice.Choice, Probe | None]]) -> tuple[dict[str, Any], dict]:
    """Return the memory of a training step at the requested size, and the totals there and for the advised choices."""
    densest = int(case.trained.counts.max(initial=0))
    here = case.probe.training_memory(case.batch, case.size, densest)
    amounts = {(case.size, None): here.total}
    for choice, probe in advised:
        if probe is not None and max(choice.size) <= advice.WHOLE:
            model = None if probe is case.probe else choice.model
            amounts[choice.size, model] = probe.training_memory(case.batch, choice.size, densest).total
    return {"batch": case.batch, "bytes": here.total, **asdict(here)}, amounts
