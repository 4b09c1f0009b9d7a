"""Lets Ultralytics, which tells files by their endings, open portable checkpoints wherever it opens its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks
from ultralytics.nn.autobackend import AutoBackend

from pixelkeep.ultra.running.whole import replaced
from pixelkeep.ultra.weights.checkpoints import is_portable, load
from pixelkeep.ultra.weights.integrity import as_named


@contextlib.contextmanager
def portable_too() -> Iterator[None]:
    """Let Ultralytics and its AutoBackend load portable checkpoints like Ultralytics' own, inside the context."""
    stock, by_name = tasks.torch_safe_load, AutoBackend._model_type

    def torch_safe_load(weight: str | Path, *args: Any, **keywords: Any) -> tuple[dict, str]:
        if is_portable(weight):
            return deepcopy(load(Path(weight))), str(weight)  # a copy, as Ultralytics changes the checkpoint
        with as_named() if Path(weight).is_file() else contextlib.nullcontext():
            return stock(weight, *args, **keywords)

    def model_type(path: str | Path = "", dnn: bool = False) -> str:
        return "pt" if is_portable(path) else by_name(path, dnn)

    with replaced(tasks, "torch_safe_load", torch_safe_load):
        AutoBackend._model_type = staticmethod(model_type)
        try:
            yield
        finally:
            AutoBackend._model_type = staticmethod(by_name)
