"""Proves that Swin equals timm's, that SliceSamp replaces only its patch merging, and what a checkpoint holds."""

from __future__ import annotations

import builtins
import io
from copy import deepcopy

import pytest
import torch
from torch import nn

from pixelkeep.blocks import SliceSamp, SliceSampMerging, Swin, merge_by_slicesamp

torch.set_num_threads(1)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def timm():
    """The optional timm package, which `pip install "pixelkeep[dev]"` installs."""
    return pytest.importorskip("timm")


def test_linear__equals_timm(timm):
    """With its own patch merging the network equals timm's: the same named tensors and the same features."""
    theirs = timm.create_model("swin_tiny_patch4_window7_224", num_classes=0, global_pool="").eval()
    ours = Swin(3, 768, "tiny", "linear").eval()
    ours.net.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        expected = theirs.forward_features(image(1, 3, 224, 224))  # (N, 7, 7, 768)
        torch.testing.assert_close(ours(image(1, 3, 224, 224)), expected.permute(0, 3, 1, 2))


def test_slicesamp__replaces_each_patch_merging(timm):
    """Three mergings become SliceSamp with the same channels, and nothing else changes."""
    with torch.device("meta"):
        before, after = Swin(3, 768, "tiny", "linear"), Swin(3, 768, "tiny", "slicesamp")
    shapes = [{k: v.shape for k, v in m.net.state_dict().items() if "downsample" not in k} for m in (before, after)]
    assert shapes[0] == shapes[1]
    merged = [m for m in after.modules() if isinstance(m, SliceSampMerging)]
    channels = [(m.down.depthwise.in_channels // 4, m.down.pointwise.out_channels) for m in merged]
    assert channels == [(96, 192), (192, 384), (384, 768)]
    counts = [sum(p.numel() for p in m.parameters()) for m in (before, after)]
    linear = sum(8 * a + 4 * a * b for a, b in channels)
    assert counts[0] == 28_288_354 - 768 * 1000 - 1000  # timm's own count, less its head
    assert counts[1] - counts[0] == sum(44 * a + 4 * a * b + 2 * b for a, b in channels) - linear


def test_merging__is_slicesamp_with_channels_last():
    """The merging is SliceSamp on a map with channels last, for odd sizes too."""
    merging, x = SliceSampMerging(4, 6).eval(), image(2, 7, 6, 4)
    expected = merging.down(x.permute(0, 3, 1, 2).contiguous())
    torch.testing.assert_close(merging(x).permute(0, 3, 1, 2), expected)
    assert isinstance(merging.down, SliceSamp) and expected.shape == (2, 6, 4, 3)


def test_same_phases__as_timm(timm):
    """timm's patch merging reads the four phases in SliceSamp's order, so its weights have the same meaning."""
    from timm.models.swin_transformer import PatchMerging

    from pixelkeep.blocks import space_to_depth

    theirs, x = PatchMerging(2), image(1, 4, 6, 2)
    theirs.norm, theirs.reduction = nn.Identity(), nn.Identity()
    assert torch.equal(theirs(x).permute(0, 3, 1, 2), space_to_depth(x.permute(0, 3, 1, 2)))


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (61, 47)])
def test_sizes__any(timm, size):
    """Any image size is accepted; one that is not a multiple of 4 is zero-padded at the bottom and right."""
    net, x = Swin(3, 768).eval(), image(1, 3, *size)
    with torch.no_grad():
        y = net(x)
        padded = nn.functional.pad(x, (0, -size[1] % 4, 0, -size[0] % 4))
        assert torch.equal(y, net(padded)) and y.shape[2:] == (-(-size[0] // 32), -(-size[1] // 32))


@pytest.mark.parametrize("fused", [False, True])
def test_checkpoint__holds_no_class_of_timm(timm, fused):
    """A copy and a restricted load give the same output, keep mode and frozen layers, and share no memory."""
    net, x = Swin(3, 768).eval(), image(1, 3, 64, 64)
    frozen = "net.patch_embed.proj.weight"
    net.get_parameter(frozen).requires_grad_(False)
    net.note = "kept"
    if fused:
        for m in net.modules():
            if isinstance(m, SliceSamp):
                m.fuse()
    file = io.BytesIO()
    torch.save(net, file)
    assert b"timm" not in file.getvalue()
    file.seek(0)
    with torch.serialization.safe_globals([Swin]):
        loaded = torch.load(file, weights_only=True)
    for twin in (deepcopy(net), loaded):
        assert torch.equal(twin(x), net(x)) and twin.note == "kept" and not twin.training
        trained = {name for name, p in net.named_parameters() if p.requires_grad}
        assert {name for name, p in twin.named_parameters() if p.requires_grad} == trained and frozen not in trained
        assert twin.get_parameter(frozen).data_ptr() != net.get_parameter(frozen).data_ptr()
    assert loaded.half().get_parameter(frozen).dtype == deepcopy(loaded).get_parameter(frozen).dtype == torch.float16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 768, "huge"), "size must be one of tiny, small, base, got 'huge'"),
        ((3, 768, "tiny", "conv"), "merging must be one of linear, slicesamp, got 'conv'"),
        ((3, 512), "size tiny gives 768 output channels, got 512"),
    ],
)
def test_arguments__refused(arguments, message):
    """Each wrong argument is refused with its value and what would be right, before timm is imported."""
    with pytest.raises(ValueError, match=f"Swin: {message}"):
        Swin(*arguments)


def test_merge__other_networks_are_refused(timm):
    """A network without timm's patch merging is refused."""
    with pytest.raises(ValueError, match="Linear has no PatchMerging"):
        merge_by_slicesamp(nn.Linear(2, 2))


def test_without_timm__names_the_extra(monkeypatch):
    """Without timm a one-line error names the extra that installs it."""
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "timm":
            raise ImportError("No module named 'timm'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'pixelkeep\[timm\]'"):
        Swin(3, 768)
