"""Latency: networks run in turns, in an order drawn anew each round, and ratios are taken within a round."""

from __future__ import annotations

import numpy as np
import pytest

from pixelkeep.ultra.costs.latency import summarise, take_turns


class Machine:
    """A clock that networks advance by their cost, and on which they run slower from round to round."""

    def __init__(self, costs: dict[str, float]) -> None:
        self.now, self.ran = 0.0, []
        self.steps = {name: lambda name=name, cost=cost: self._run(name, cost) for name, cost in costs.items()}

    def _run(self, name: str, cost: float) -> None:
        self.now += cost * (1 + len(self.ran) // len(self.steps))
        self.ran.append(name)


def test_turns__every_round_has_all_in_another_order():
    """Each network runs once in every round, and none always comes first."""
    machine = Machine({"a": 1.0, "b": 2.0, "c": 3.0})
    times = take_turns(machine.steps, 20, clock=lambda: machine.now)
    rounds = [tuple(machine.ran[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert {order[0] for order in rounds} == {"a", "b", "c"}
    slower = np.arange(1, 21)[:, None]
    assert times == pytest.approx(slower * [1.0, 2.0, 3.0])


def test_ratio__a_slowing_machine_changes_nothing():
    """Medians change with a machine that slows down; ratios, which are taken within a round, do not."""
    machine = Machine({"a": 0.001, "b": 0.003})
    found = summarise(["a", "b"], take_turns(machine.steps, 5, clock=lambda: machine.now), "a")
    assert (found["b"].ratio, found["b"].ratio_low, found["b"].ratio_high) == pytest.approx((3, 3, 3))
    # b takes 3, 6, 9, 12 and 15 ms in the five rounds
    assert (found["b"].ms, found["b"].low, found["b"].high) == pytest.approx((9, 6, 12))
    assert found["a"].ratio == 1
