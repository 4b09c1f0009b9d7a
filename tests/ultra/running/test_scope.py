"""Which settings have an effect where: the lists fit this release of Ultralytics and still work with another."""

from __future__ import annotations

import pytest
from ultralytics.cfg import DEFAULT_CFG_DICT

from pixelkeep.ultra.running import recipe, scope

NAMED = {*scope.COMMON, *scope.WITHOUT, *scope.VALIDATION, *scope.INSTEAD}
NAMED.update(name for lists in (scope.ALSO, scope.WITHOUT_IN) for names in lists.values() for name in names)


def test_groups__are_this_releases():
    """Every group named here is a heading of cfg/default.yaml, and every setting below one is found."""
    named = {*scope.UNUSED_GROUPS, *(group for groups in scope.GROUPS.values() for group in groups)}
    assert named <= set(scope.groups().values())
    assert set(scope.groups()) == set(DEFAULT_CFG_DICT) - {"task", "mode"}  # which stand above the first heading


def test_names__exist():
    """Listed names are settings: of Ultralytics, of its earlier releases ('half'), or ours ('path', the recipe's)."""
    assert NAMED - {"half", "path", *recipe.NAMES} <= set(DEFAULT_CFG_DICT)


def test_lists__say_nothing_twice():
    """Settings that a group brings are not listed again, and those left out would otherwise be included."""
    grouped = {c: {s for s, g in scope.groups().items() if g in scope.GROUPS[c]} for c in scope.COMMANDS}
    for command in scope.COMMANDS:
        assert not grouped[command] & (set(scope.ALSO[command]) - set(scope.COMMON)), command
        assert set(scope.WITHOUT_IN[command]) <= grouped[command], command
    assert set(scope.WITHOUT) <= set.union(*grouped.values())


def test_validation__settings_of_train_and_val():
    """Settings that decide the figures can be set for train, whose last step is a validation, and for val."""
    assert all({"train", "val"} <= set(scope.commands_using(setting)) for setting in scope.VALIDATION)


@pytest.mark.parametrize("groups", [{}, {"loudness": "Sound settings"}], ids=["no-headings", "new-heading"])
def test_another_release__unknown_settings_pass(monkeypatch, groups):
    """A setting that no list knows is left to Ultralytics to judge, and the known ones keep their commands."""
    monkeypatch.setattr(scope, "groups", lambda: groups)
    assert scope.commands_using("loudness") == scope.COMMANDS
    assert scope.commands_using("best") == ("train",)
    assert scope.commands_using("overlap_mask") == ()


def test_tasks__each_leaves_out_what_is_not_its():
    """Every setting that a task leaves out exists, is used by some command, and by another task."""
    from pixelkeep.ultra.running.recipe import NAMES as OWN

    listed = {setting for without in scope.WITHOUT_FOR.values() for setting in without}
    assert listed <= set(DEFAULT_CFG_DICT) | set(OWN)
    assert all(scope.commands_using(setting) and scope.tasks_using(setting) for setting in listed)
    assert scope.tasks_using("dropout") == ("classify",) and scope.tasks_using("iou") == ("detect",)
    assert scope.tasks_using("mosaic") == ("detect", "semantic") and len(scope.tasks_using("epochs")) == 3
