"""Classification networks assembled from the blocks, and random values for them."""

from __future__ import annotations

import torch
from torch import nn

from pixelkeep import blocks


def resnet(
    down: str,
    classes: int = 1000,
    kind: str = "bottleneck",
    depths: tuple[int, ...] = (3, 4, 6, 3),
    stem: tuple[nn.Module, ...] | None = None,
) -> nn.Sequential:
    """Return a ResNet with one kind of downsampling; the default stem is a 7x7 convolution and max-pooling."""
    stem = stem or (blocks.ConvNorm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
    widths = [64 * (4 if kind == "bottleneck" else 1) * 2**i for i in range(4)]
    stages = [
        blocks.ResNetStage(before, width, depth, down if i else "none", kind)
        for i, (before, width, depth) in enumerate(zip([64, *widths], widths, depths, strict=False))
    ]
    return nn.Sequential(*stem, *stages, blocks.Classifier(widths[-1], classes))


def densenet(pool: str, stem_pool: nn.Module) -> nn.Sequential:
    """Return a DenseNet-121 with the given pooling in its transitions and after its first convolution."""
    layers, channels = [blocks.ConvNorm(3, 64, 7, 2), stem_pool], 64
    for i, depth in enumerate((6, 12, 24, 16)):
        layers.append(blocks.DenseBlock(channels, channels + 32 * depth, depth))
        channels += 32 * depth
        if i < 3:
            layers.append(blocks.DenseTransition(channels, channels // 2, pool))
            channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), blocks.Classifier(channels, 1000))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def fill(network: nn.Module, gain: float = 1.0) -> nn.Module:
    """Give a network random values, statistics included, that keep its feature maps of moderate size."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
            if tensor.ndim > 1:
                tensor.copy_(values * gain * (2 / tensor[0].numel()) ** 0.5)
            else:
                tensor.copy_(0.1 * values + (1 if name.endswith(("running_var", "weight")) else 0))
    return network.eval()


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy every tensor of one network into another that has its layers in the same order."""
    values = source.state_dict().values()
    target.load_state_dict(dict(zip(target.state_dict(), values, strict=True)))
