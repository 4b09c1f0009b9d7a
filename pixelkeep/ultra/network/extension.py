"""Puts pixelkeep's parser and model names into Ultralytics.

Two functions of ``ultralytics.nn.tasks`` are wrapped, ``parse_model`` and ``yaml_model_load``, and three methods of its
models, ``fuse``, ``is_fused`` and ``loss``; so are ``get_flops`` of its ``torch_utils`` and the assignment in its
detection loss. The heads are registered. Models without a registered
block, and paths that are not pixelkeep model names, are handled by Ultralytics unchanged.
"""

from __future__ import annotations

import sys
from types import ModuleType

from pixelkeep.ultra.network.auxiliary import extend_loss
from pixelkeep.ultra.network.counting import extend_counting
from pixelkeep.ultra.network.existing import extend_assignment
from pixelkeep.ultra.network.fusing import MARK, extend_fusing
from pixelkeep.ultra.network.names import extend_yaml_load
from pixelkeep.ultra.network.parser import extend_parser


def extend(tasks: ModuleType) -> None:
    """Extend the loaded module ``ultralytics.nn.tasks``. Calling it twice changes nothing."""
    _replace(tasks, "parse_model", extend_parser)
    _replace(tasks, "yaml_model_load", extend_yaml_load)
    _replace(sys.modules["ultralytics.utils.torch_utils"], "get_flops", extend_counting)  # tasks has imported it
    extend_fusing(tasks.BaseModel)
    extend_loss(tasks.BaseModel, (tasks.ClassificationModel,))
    extend_assignment(tasks.v8DetectionLoss)
    from pixelkeep.ultra.heads import register_heads  # the heads derive from Ultralytics' classes, which exist by now

    register_heads()


def _replace(owner: ModuleType, name: str, wrap) -> None:
    """Replace a function of a module by ``wrap`` of it, also in Ultralytics modules that have already imported it."""
    original = getattr(owner, name)
    if hasattr(original, MARK):
        return
    wrapped = wrap(original, owner)
    setattr(wrapped, MARK, True)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("ultralytics") and vars(module).get(name) is original:
            setattr(module, name, wrapped)
    setattr(owner, name, wrapped)
