"""--show-regions darkens what the network's mask leaves out, with its regions at their place in the picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.nn.tasks import DetectionModel
from varied import varied, write

from pixelkeep.cli.main import run
from pixelkeep.report.drawing import DIM
from pixelkeep.ultra.predictors import boxes
from pixelkeep.ultra.predictors.regions import in_picture, spread
from pixelkeep.ultra.weights.checkpoints import load

SIDE = 128  # side of the picture in pixels


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Return noise that grows brighter to one side, so that its regions differ."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3))
    return (noise * np.linspace(0, 1, SIDE)[:, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(picture, tmp_path_factory) -> Path:
    """Write untrained yolov5-cad-n weights whose threshold makes a quarter of the picture's regions active."""
    torch.manual_seed(0)
    yolo = YOLO("yolov5-cad-n.yaml", task="detect", verbose=False)
    yolo.model = DetectionModel("yolov5-cad-n.yaml", nc=2, verbose=False).eval()
    mask, logits = yolo.model.model[24], []
    hook = mask.estimator.register_forward_hook(lambda m, inputs, y: logits.append(y))
    with torch.no_grad():
        yolo.model(seen(picture))
        values = mask.grown(logits[0]).flatten().sort(descending=True).values
        mask.threshold.copy_(values[len(values) // 4 - 1 :][:2].mean())  # midway, so that rounding changes no region
    hook.remove()
    yolo.model.names = {0: "car", 1: "boat"}
    file = tmp_path_factory.mktemp("weights") / "cad.pt"
    yolo.save(file)
    return file


def seen(picture: np.ndarray) -> torch.Tensor:
    """Return the network's input for a picture (H, W, 3) in BGR."""
    return torch.from_numpy(picture[..., ::-1].transpose(2, 0, 1).copy())[None].float() / 255


def detect(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["detect", *map(str, arguments)])
    assert not ended.value.code


def test_detect__all_but_the_networks_regions_is_dark(weights, picture, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(boxes, "draw", lambda image, *rest: drawn.append(image) or image)
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), picture)
    detect("--weights", weights, "--source", file, "--imgsz", str(SIDE), "--show-regions", "--project", tmp_path)
    network = load(weights)["model"].float().eval()
    with torch.no_grad():
        network(seen(picture))
    cells = network.model[-1].region_mask[0].numpy()
    assert 0 < cells.mean() < 0.5 and cells.shape == (4, 4)
    bright = np.kron(cells, np.ones((SIDE // 4, SIDE // 4))) > 0
    np.testing.assert_array_equal(drawn[0][bright], picture[bright])
    np.testing.assert_array_equal(drawn[0][~bright], (picture[~bright] * DIM).astype(np.uint8))


@pytest.mark.parametrize("shape", [(300, 400), (401, 299), (64, 640), (640, 640)])
@pytest.mark.parametrize("auto", [True, False])
def test_in_picture__undoes_the_letterbox(shape, auto):
    """A rectangle in the letterboxed picture is mapped back to its place, up to a pixel at its edges."""
    rectangle = np.zeros((*shape, 3), np.uint8)
    top, bottom, left, right = shape[0] // 4, shape[0] // 2, shape[1] // 8, 3 * shape[1] // 4
    rectangle[top:bottom, left:right] = 255
    fitted = LetterBox((640, 640), auto=auto, stride=32)(image=rectangle)[..., 0] > 127
    found = in_picture(fitted, shape)
    assert found.shape == shape
    assert found[top + 1 : bottom - 1, left + 1 : right - 1].all()
    found[max(top - 1, 0) : bottom + 1, left - 1 : right + 1] = False
    assert not found.any()


@pytest.mark.parametrize(("size", "cells"), [((64, 96), (2, 3)), ((65, 96), (3, 3)), ((64, 90), (2, 3))])
def test_spread__cells_of_32_pixels(size, cells):
    mask = torch.arange(cells[0] * cells[1]).view(1, *cells) % 2 == 0
    pixels = spread(mask, size)
    assert pixels.shape == (1, *size)
    for y, x in ((0, 0), (31, 31), (32, 31), (size[0] - 1, size[1] - 1)):
        assert pixels[0, y, x] == mask[0, y // 32, x // 32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "64"], "--show-regions has no effect with --tile"),
        (["--no-save"], "--show-regions needs annotated copies: leave out --no-save"),
    ],
)
def test_detect__refuses_what_has_no_effect(arguments, message, weights, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        run(["detect", "--weights", str(weights), "--source", str(tmp_path / "a.png"), "--show-regions", *arguments])
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_detect__names_a_network_without_a_mask(tmp_path, capsys):
    model = varied("yolov5-spd-n", {0: "car"})
    model.task = "detect"
    file = write(model, tmp_path / "best.pt")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(SystemExit) as ended:
        run(["detect", "--weights", str(file), "--source", str(tmp_path / "a.png"), "--show-regions"])
    assert ended.value.code == 2
    assert "best.pt' has no mask that chooses regions; yolov5-cad" in " ".join(capsys.readouterr().err.split())
