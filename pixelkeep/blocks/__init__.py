"""The building blocks: pure torch, one paper per file, usable in any network.

- `SpaceToDepth`, `DepthToSpace`: the lossless rearrangement and its inverse (space_to_depth.py)
- `SPDConv`: SpaceToDepth and a stride-1 convolution (spdconv.py)
- `SliceSamp`, `SliceUpsamp`: slicing and a depthwise-separable convolution (slicesamp.py)

A checkpoint that holds a pickled model names every class by its module path. Each public class therefore says
that it lives here, in `pixelkeep.blocks`: files may be renamed and split, these names and this path stay.
"""

from .slicesamp import SliceSamp, SliceUpsamp
from .space_to_depth import DepthToSpace, SpaceToDepth, depth_to_space, space_to_depth
from .spdconv import SPDConv

__all__ = [
    "DepthToSpace",
    "SPDConv",
    "SliceSamp",
    "SliceUpsamp",
    "SpaceToDepth",
    "depth_to_space",
    "space_to_depth",
]

for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
