"""The algebra of lossless conversion and folding between strided convolutions and SpaceToDepth with a convolution.

- `Kernel`, `to_spd`, `to_strided`: a convolution and its conversion in both directions (kernels.py)
- `fold_spdconv`, `fold_sliced`, `fold_concat`, `joined`: modules folded for inference (folding.py)
- `ridge`, `separable`: least-squares fits where no exact conversion exists (fitting.py)

The package is plain PyTorch, for any network; `docs/conversion.md` explains the algebra.
"""

from .fitting import relative_error, ridge, separable
from .folding import fold_concat, fold_sliced, fold_spdconv, joined
from .kernels import Kernel, dense, group_major, to_spd, to_strided, trimmed

__all__ = [
    "Kernel",
    "dense",
    "fold_concat",
    "fold_sliced",
    "fold_spdconv",
    "group_major",
    "joined",
    "relative_error",
    "ridge",
    "separable",
    "to_spd",
    "to_strided",
    "trimmed",
]
