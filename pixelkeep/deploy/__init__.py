"""The algebra of lossless conversion and folding: strided convolutions and SpaceToDepth, one written as the other.

- `Kernel`, `to_spd`, `to_strided`: the two directions for one convolution (kernels.py)
- `fold_spdconv`, `fold_sliced`, `fold_concat`, `joined`: modules folded for inference (folding.py)
- `ridge`, `separable`: least-squares fits where no exact conversion exists (fitting.py)

Plain PyTorch, for any network; `docs/conversion.md` explains the algebra.
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
