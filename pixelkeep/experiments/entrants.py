"""The entrants of a comparison: models by themselves, or under a name with settings of their own.

Several settings of one model, such as the parts of a recipe, can thus be arms of one comparison. They are trained alike
in all else and scored on the same images, and their verdicts are corrected together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixelkeep.errors import OptionError
from pixelkeep.ultra.commands import training
from pixelkeep.ultra.running.scope import VALIDATION
from pixelkeep.ultra.running.settings import DEFAULTS, merge, parse_assignments

# Settings that an arm may not have of its own: those that identify its training, and those that decide on which images
# and how all arms are scored. Only arms at equal cost get an image size of their own.
SHARED = ("model", "seed", "data", "path", "imgsz", "batch", *training.PLACE, *training.MACHINE, *VALIDATION)


@dataclass(frozen=True)
class Entrant:
    """An arm as the user gives it, before it is checked.

    Attributes:
        name: Name of the arm; None for the model's own name.
        model: Model name, YAML file or checkpoint.
        settings: Settings by name that the arm does not share with the others.
    """

    name: str | None
    model: str
    settings: dict = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Entrant:
        """Parse ``NAME:MODEL:KEY=VALUE:KEY=VALUE``, with any number of settings.

        >>> Entrant.read("distance:yolov5-spd-n:nwd=0.5")
        Entrant(name='distance', model='yolov5-spd-n', settings={'nwd': 0.5})

        Raises:
            OptionError: The text has another form.
        """
        name, _, rest = text.partition(":")
        model, _, assignments = rest.partition(":")
        if not name or not model:
            raise OptionError(f"--arm {text}: write it as NAME:MODEL:KEY=VALUE, such as distance:yolov5-spd-n:nwd=0.5")
        return cls(name, model, parse_assignments(assignments.split(":")) if assignments else {})

    def checked(self, settings: dict) -> dict:
        """Return the entrant's own settings, checked together with those that all arms share.

        Raises:
            OptionError: A setting is unknown, has no effect, must be shared, or has a value that is not allowed; or
                the entrant's name cannot be that of a folder.
        """
        told = f"arm {self.name or self.model}"
        for key in self.settings:
            if key in SHARED:
                raise OptionError(f"{told}: {key} is the same for all arms of a comparison; leave it out there")
        if self.name is not None and (Path(self.name).name != self.name or self.name.startswith(".")):
            raise OptionError(f"{told}: its name becomes a folder's; use no '/', and no '.' at its start")
        try:
            shared = {key: value for key, value in settings.items() if key not in DEFAULTS}
            merged = merge(shared | self.settings, command="train")
        except OptionError as error:
            raise OptionError(f"{told}: {error}") from error
        return {key: merged[key] for key in self.settings}


def entrants(given: Sequence[str | Entrant]) -> list[Entrant]:
    """Return models wrapped as entrants; entrants are returned as they are."""
    return [each if isinstance(each, Entrant) else Entrant(None, each) for each in given]


def require_unlike(arm: str, there: Sequence[str]) -> None:
    """Raise OptionError if there is an arm of that name already."""
    if arm in there:
        raise OptionError(f"two of the models are called '{arm}'; give each once, and files different names")
