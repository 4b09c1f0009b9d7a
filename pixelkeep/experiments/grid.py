"""Lays out the trainings of a comparison: one cell for each arm and seed, all with the same settings.

``grid.json`` records what the cells were trained with, so that a folder never holds cells of different settings.
:mod:`pixelkeep.experiments.cells` trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ultralytics.cfg import DEFAULT_CFG_DICT

from pixelkeep.datasets.definitions.spec import DatasetSpec
from pixelkeep.errors import OptionError
from pixelkeep.experiments.arms import require_baseline
from pixelkeep.experiments.entrants import Entrant, entrants, require_unlike
from pixelkeep.experiments.equal import Equal, Several, find_equal, kinds_of, model_file
from pixelkeep.experiments.identity import OWN, identify, place, sha
from pixelkeep.experiments.matching import WIDTH, Baseline
from pixelkeep.experiments.sizes import as_size, rounded
from pixelkeep.ultra.commands import tasks
from pixelkeep.ultra.costs.multiples import stride_of
from pixelkeep.ultra.data.resolving import resolve_data
from pixelkeep.ultra.running import runs
from pixelkeep.ultra.weights.checkpoints import is_checkpoint
from pixelkeep.ultra.weights.definitions import check_model, resolve_model


@dataclass(frozen=True)
class Cell:
    """One training of an arm with a seed.

    Attributes:
        arm: Name of the arm.
        model: Model YAML or checkpoint that is trained.
        seed: Seed of the training.
        folder: Run folder of the training.
        imgsz: Height and width in pixels if the arm has an image size of its own, else None.
        own: Settings by name in which the arm differs from the others.
    """

    arm: str
    model: str
    seed: int
    folder: Path
    imgsz: tuple[int, int] | None = None
    own: dict = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.arm} seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether the training has completed its final validation."""
        return runs.is_finished(self.folder)

    @property
    def interrupted(self) -> bool:
        """Whether the folder has a checkpoint and settings to resume the training from."""
        return (self.folder / "weights" / "last.pt").is_file() and (self.folder / "settings.yaml").is_file()


@dataclass(frozen=True)
class Grid:
    """All trainings of a comparison.

    Attributes:
        folder: Folder of the comparison, which holds the folders of the cells.
        cells: The cells seed by seed, so that a comparison cut short has results of every model.
        settings: Training settings that all cells share.
        baseline: Name of the arm that the others are compared with.
        truth: Ground truth that the cells are validated on, in COCO form.
        equal: The arms that are the baseline at equal cost; None if they were not asked for.
    """

    folder: Path
    cells: tuple[Cell, ...]
    settings: dict
    baseline: str
    truth: dict
    equal: Equal | Several | None = None


def plan(
    models: Sequence[str | Entrant],
    seeds: int,
    settings: dict,
    baseline: str | None = None,
    match: str | Sequence[str] | None = None,
) -> Grid:
    """Check models, data and the contents of the folder, and lay out the cells.

    Args:
        models: Model names, YAML files or checkpoints, or arms with settings of their own.
        seeds: Number of trainings of each model; their seeds count up from the setting ``seed``.
        settings: Settings as :func:`pixelkeep.ultra.running.settings.merge` returns them. Without ``name``, the first
            folder of these settings is resumed, or a new one made if there is none.
        baseline: One of the models or arms; the first by default.
        match: ``gflops``, ``latency`` or a list of both to train the baseline at the cost of each other model as well.

    Raises:
        PixelkeepError: A model or the data cannot be used, or the folder holds cells of other settings.
    """
    paths = [(entrant, _detector(entrant.model)) for entrant in entrants(models)]
    spec = resolve_data(settings.get("data"), settings.get("path"))
    resolved, definitions, own = {}, {}, {}
    for entrant, path in paths:
        arm = entrant.name or _arm(path)
        require_unlike(arm, resolved)
        definitions[arm] = check_model(path, spec.channels)
        resolved[arm], own[arm] = path, entrant.checked(settings)
    chosen = baseline if baseline in resolved else baseline and _arm(resolve_model(baseline))
    chosen = require_baseline(chosen, resolved)
    matched = kinds_of(match)
    if matched and is_checkpoint(resolved[chosen]):
        raise OptionError(f"match: the baseline {chosen} is a checkpoint, which cannot be made wider; name its model")
    truth, identity = identify({arm: sha(resolved[arm], made) for arm, made in definitions.items()}, settings, spec)
    identity[OWN] = {arm: values for arm, values in own.items() if values}
    folder = place(settings.get("project"), settings.get("name"), identity)
    kinds = {arm: (str(path), None) for arm, path in resolved.items()}
    equal = _equal(folder, matched, chosen, definitions, settings, spec, truth)
    for arm in equal.arms.values() if equal else ():
        model = model_file(folder, arm.name) if arm.kind == WIDTH else resolved[chosen]
        kinds[arm.name] = (str(model), None if arm.kind == WIDTH else arm.size)
        own[arm.name] = own[chosen]
    first = int(settings.get("seed", DEFAULT_CFG_DICT["seed"]))
    cells = tuple(
        Cell(arm, model, seed, folder / arm / f"seed{seed}", size, own[arm])
        for seed in range(first, first + seeds)
        for arm, (model, size) in kinds.items()
    )
    return Grid(folder, cells, settings, chosen, truth, equal)


def _equal(
    folder: Path, match: Sequence[str], baseline: str, definitions: dict, settings: dict, spec: DatasetSpec, truth: dict
) -> Equal | Several | None:
    """Find the baseline's arms at the cost of each other model, for each kind of cost; None if no kind is given."""
    if not match:
        return None
    data = spec.channels, 1 if settings.get("single_cls") else len(spec.names)
    stride = stride_of(definitions[baseline], *data)
    size = rounded(as_size(settings.get("imgsz", DEFAULT_CFG_DICT["imgsz"])), stride)
    wide = sum(image["width"] >= image["height"] for image in truth["images"]) * 2 >= len(truth["images"])
    others = {arm: made for arm, made in definitions.items() if arm != baseline}
    plain = Baseline(baseline, definitions[baseline], size, stride, wide)
    found = [find_equal(folder, by, plain, others, data, settings.get("device")) for by in match]
    return found[0] if len(found) == 1 else Several(tuple(found))


def _detector(model: str) -> str | Path:
    path = resolve_model(model)
    task = tasks.of_model(path)
    if task is not tasks.DETECT:
        raise OptionError(
            f"model '{model}' is for {task.noun}; compare measures detection; use train and val for this one"
        )
    return path


def _arm(model: str | Path) -> str:
    return Path(model).stem
