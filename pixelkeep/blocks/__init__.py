"""The building blocks: pure torch, one paper per file, usable in any network.

- `SpaceToDepth`, `DepthToSpace`: the lossless rearrangement and its inverse (space_to_depth.py)
- `SPDConv`: SpaceToDepth and a stride-1 convolution (spdconv.py)
- `SliceSamp`, `SliceUpsamp`: slicing and a depthwise-separable convolution (slicesamp.py)
- `LIP`, `lip`, `SimplifiedLIP`, `BottleneckLIP`: averages with learned weights (lip.py)
- `ResNetStage`, `DenseBlock`, `DenseTransition`, `Classifier`: the parts of the classification networks that host these
  blocks (resnet.py, densenet.py, classifier.py), and `Swin`, built on timm's (swin.py). The layers that they are made
  of are listed here too, since checkpoints name them
- `SelectiveStage`: a stage that is strided everywhere and also runs at full resolution where a mask says so
  (selective.py, submanifold.py, halo_mask.py)
- `ContentAdaptiveStage`: a stage that keeps the resolution of the regions that matter (adaptive.py, mixed.py,
  regions.py); `PlainStage`: the same stage without a mask; `ASPP` (aspp.py), for segmentation
- `EdgeMask`, `LearnedMask`, `ObjectMask`: the masks that choose these regions (masks.py, object_mask.py)

A checkpoint that holds a pickled model names every class by its module path. Each public class therefore gives
`pixelkeep.blocks` as its module: files may be renamed and split, while these names and this path stay.
"""

from .adaptive import ContentAdaptiveStage, PlainStage
from .aspp import ASPP, DilatedConvNorm
from .classifier import Classifier
from .densenet import DenseBlock, DenseLayer, DenseTransition
from .halo_mask import HaloMask
from .initial import FanOutConv2d, ZeroBatchNorm2d, ZeroConv2d
from .lip import LIP, BottleneckLIP, InstanceNorm, LIPHead, LIPTrunk, SimplifiedLIP, lip
from .masks import EdgeMask, LearnedMask
from .mixed import EntryBlock, MixedBlock, MixedConv, MixedNorm
from .object_mask import ObjectMask
from .resnet import ConvNorm, ConvSPDNorm, LIPResidualBlock, ResidualBlock, ResNetStage
from .selective import SelectivePath, SelectiveStage, SelectiveUnit
from .slicesamp import SliceSamp, SliceUpsamp
from .space_to_depth import DepthToSpace, SpaceToDepth, depth_to_space, space_to_depth
from .spdconv import SPDConv
from .submanifold import SubmanifoldConv
from .swin import SliceSampMerging, Swin, merge_by_slicesamp

__all__ = [
    "ASPP",
    "LIP",
    "BottleneckLIP",
    "Classifier",
    "ContentAdaptiveStage",
    "ConvNorm",
    "ConvSPDNorm",
    "DenseBlock",
    "DenseLayer",
    "DenseTransition",
    "DepthToSpace",
    "DilatedConvNorm",
    "EdgeMask",
    "EntryBlock",
    "FanOutConv2d",
    "HaloMask",
    "InstanceNorm",
    "LIPHead",
    "LIPResidualBlock",
    "LIPTrunk",
    "LearnedMask",
    "MixedBlock",
    "MixedConv",
    "MixedNorm",
    "ObjectMask",
    "PlainStage",
    "ResNetStage",
    "ResidualBlock",
    "SPDConv",
    "SelectivePath",
    "SelectiveStage",
    "SelectiveUnit",
    "SimplifiedLIP",
    "SliceSamp",
    "SliceSampMerging",
    "SliceUpsamp",
    "SpaceToDepth",
    "SubmanifoldConv",
    "Swin",
    "ZeroBatchNorm2d",
    "ZeroConv2d",
    "depth_to_space",
    "lip",
    "merge_by_slicesamp",
    "space_to_depth",
]

for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
