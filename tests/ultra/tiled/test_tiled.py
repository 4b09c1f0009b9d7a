"""Detection in tiles agrees with plain detection: one tile per image, tiles as crops, and at other scales."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

import pixelkeep
from pixelkeep.cli.main import run
from pixelkeep.datasets.demo import CLASSES, write_demo
from pixelkeep.errors import OptionError, PixelkeepError, SourceError
from pixelkeep.tiling import Merged, Seams
from pixelkeep.tiling import run as tiling_run
from pixelkeep.ultra.commands.validation import validate
from pixelkeep.ultra.running import settings
from pixelkeep.ultra.tiled.auto import suitable_tile
from pixelkeep.ultra.tiled.images import Request
from pixelkeep.ultra.weights.checkpoints import load

SIDE, NAMES = 128, {0: "car", 1: "person"}


def write_weights(path, channels: int = 3, names=NAMES, **train_args):
    """Write a checkpoint of a network that finds a few objects in noise, with distinct scores."""
    torch.manual_seed(3)
    definition = {**YOLO("yolov5-n.yaml").model.yaml, "channels": channels}
    model = DetectionModel(definition, ch=channels, nc=len(names), verbose=False)
    model.names = names
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(torch.rand(2, channels, SIDE, SIDE))  # so that activations neither vanish nor saturate
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.02)
        torch.nn.init.constant_(branch[-1].bias, -2.0)
    for branch in model.model[-1].cv2:
        branch[-1].weight.data *= 0.2
    torch.save({"model": model.half(), "train_args": train_args}, path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.pt")


def plain(weights, image: np.ndarray, imgsz: int) -> np.ndarray:
    """Return Ultralytics' own detections as rows x1, y1, x2, y2, score, class."""
    (result,) = YOLO(weights).predict(image, imgsz=imgsz, conf=0.25, device="cpu", verbose=False, save=False)
    return result.boxes.data.numpy()


def rows(found) -> np.ndarray:
    return np.column_stack([found.boxes, found.scores, found.classes])


def assert_equal(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-3) -> None:
    assert len(found) == len(expected) > 5
    np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=tolerance)
    np.testing.assert_allclose(found[:, 4:], expected[:, 4:], atol=1e-5)


def test_one_tile__equals_plain_detection(weights, noise):
    """With one tile as large as the image, detections equal those of Ultralytics."""
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    assert_equal(rows(detector(noise[:, :SIDE])), plain(weights, noise[:, :SIDE], SIDE))


@pytest.fixture
def apart(monkeypatch):
    """Replace merging, so that the detections of the tiles stay as they are."""

    def keep(found, *_: object) -> Merged:
        return Merged(found.boxes, found.scores, found.classes, Seams())

    monkeypatch.setattr(tiling_run, "merge", keep)


@pytest.mark.parametrize("batch", [1, 2])
def test_tiles__are_crops_in_their_places(weights, noise, apart, batch):
    """Every tile gives what plain detection finds in that crop, moved to its place in the image."""
    found = pixelkeep.TiledDetector(weights, tile=SIDE, overlap=0, device="cpu", batch=batch)(noise)
    left, right = (plain(weights, noise[:, start : start + SIDE], SIDE) for start in (0, SIDE))
    right[:, [0, 2]] += SIDE
    assert_equal(rows(found), np.vstack([left, right]))


def test_scale__tile_is_seen_at_imgsz(weights, noise):
    """A tile of 64 pixels seen at 128 equals plain detection of that crop at 128, in pixels of the image."""
    picture = noise[:64, :64]
    detector = pixelkeep.TiledDetector(weights, tile=64, imgsz=SIDE, device="cpu")
    assert_equal(rows(detector(picture)), plain(weights, picture, SIDE))


def test_full_image__is_plain_detection_besides_the_tiles(weights, noise, apart):
    """The window of the whole image adds what plain detection finds in it, after the detections of the tiles."""
    with_it = pixelkeep.TiledDetector(weights, tile=SIDE, full_image=True, device="cpu")(noise)
    without = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise)
    assert_equal(rows(with_it)[len(without) :], plain(weights, noise, SIDE))
    assert_equal(rows(with_it)[: len(without)], rows(without))


def test_batch__changes_nothing(weights):
    """Detections agree within a thousandth of a pixel for any number of tiles per batch."""
    picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (300, 401, 3), np.uint8), None, 3)
    found = [pixelkeep.TiledDetector(weights, tile=96, device="cpu", batch=batch)(picture) for batch in (1, 3, 64)]
    for other in found[1:]:
        assert_equal(rows(other), rows(found[0]))
    assert found[0].boxes.min() >= 0 and (found[0].boxes.max(0) <= [401, 300, 401, 300]).all()


def test_small_image__is_padded_not_enlarged(weights, noise):
    """An image smaller than a tile is padded with grey to whole cells, not enlarged."""
    picture = np.full((96, 96, 3), 114, np.uint8)
    picture[:70, :90] = noise[:70, :90]
    inside = plain(weights, picture, 96)
    inside[:, :4] = np.clip(inside[:, :4], 0, [90, 70, 90, 70])
    assert_equal(rows(pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise[:70, :90])), inside)


def test_detections__coco_and_picture(weights, noise):
    """COCO records hold the same detections, and plotting draws into a copy of the image."""
    found = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise)
    records = found.to_coco(7)
    assert len(records) == len(found)
    x1, y1, x2, y2 = found.boxes[0]
    np.testing.assert_allclose(records[0]["bbox"], [x1, y1, x2 - x1, y2 - y1])
    assert records[0]["image_id"] == 7 and records[0]["category_id"] == found.classes[0] + 1
    before = noise.copy()
    assert found.plot().shape[2] == 3 and (noise == before).all()


def test_stream__each_as_by_itself_and_read_ahead(weights, noise, tmp_path):
    """A stream gives each image the detections it gets alone, in order, and reads only one image ahead."""
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    images, taken = [noise, noise[:, ::-1], tmp_path / "a.png", str(tmp_path / "a.png")], []

    def one_by_one():
        for image in images:
            taken.append(image)
            yield image

    stream, counts = detector.stream(one_by_one()), []
    for found, image in zip(stream, images, strict=True):
        counts.append(len(taken))
        np.testing.assert_array_equal(rows(found), rows(detector(image)))
    assert counts == [2, 3, 4, 4] and found.path == tmp_path / "a.png"
    assert list(detector.stream([])) == []


def test_stream__ends_where_an_image_cannot_be_read(weights, noise):
    """Results of images before a missing one are yielded; then its error is raised."""
    stream = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu").stream([noise, "gone.png", noise])
    assert len(next(stream)) > 5
    with pytest.raises(SourceError, match=r"image 'gone.png' not found"):
        next(stream)
    assert next(stream, None) is None


def test_detections__say_what_they_are(weights, noise):
    """Printed detections show counts per class, the file and its size instead of arrays."""
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu", conf=0.3)
    found = detector(noise)
    counts = {name: int((found.classes == number).sum()) for number, name in NAMES.items()}
    first, last = sorted(counts, key=counts.get, reverse=True)
    expected = f"Detections({counts[first]} {first}, {counts[last]} {last}; image, {2 * SIDE} x {SIDE})"
    assert repr(found) == expected
    assert repr(pixelkeep.TiledDetector(weights, tile=SIDE, conf=1.0)(noise)).startswith("Detections(nothing; image")


@pytest.mark.parametrize(
    "call_, message",
    [
        (lambda detector, noise: detector(None), "image of type NoneType; give a file, or a NumPy array"),
        (lambda detector, noise: detector([noise]), "image of type list"),
        (lambda detector, noise: detector(Image.fromarray(noise)), "image of type Image"),
        (lambda detector, noise: detector("."), "is a folder; give its images one by one"),
        (lambda detector, noise: detector.stream("a.png"), "stream takes several images"),
        (lambda detector, noise: detector.stream(noise), "stream takes several images"),
    ],
)
def test_detector__bad_image_is_one_line(weights, noise, call_, message):
    """An object that is no image is refused in one line that says what to give, before any detection."""
    with pytest.raises(PixelkeepError, match=message) as error:
        call_(pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu"), noise)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(tile=None), "tile None: give a number of pixels of at least 32, or 'auto'"),
        (dict(tile="big"), "--tile big: give a number of pixels"),
        (dict(tile=64.5), "--tile 64.5: give a number of pixels"),
        (dict(overlap="a"), "--overlap a: give a share of a tile"),
        (dict(batch=-1), "batch: '-1' is for train"),
    ],
)
def test_detector__bad_value_is_one_line(weights, given, message):
    """Values of a wrong type are refused in one line, like values out of range."""
    with pytest.raises(OptionError, match=message):
        pixelkeep.TiledDetector(weights, device="cpu", **given)


def write_pictures(folder, noise):
    """Write one picture in several formats, and files that cannot be read."""
    cv2.imwrite(str(folder / "grey.png"), noise[..., 0])
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([noise, np.full(noise.shape[:2], 99, np.uint8)]))
    turned = Image.fromarray(np.rot90(noise[..., ::-1]))
    exif = turned.getexif()
    exif[0x0112] = 6  # viewers turn it by 90 degrees clockwise
    turned.save(folder / "turned.png", exif=exif)
    cv2.imwrite(str(folder / "deep.png"), noise.astype(np.uint16) * 257)
    whole = cv2.imencode(".png", noise)[1].tobytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")


def test_pictures__of_every_kind(weights, noise, tmp_path):
    """Grey, alpha and EXIF-rotated pictures are read as in training; others are refused in one line."""
    write_pictures(tmp_path, noise)
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    reference = rows(detector(noise))
    np.testing.assert_array_equal(rows(detector(tmp_path / "alpha.png")), reference)
    np.testing.assert_array_equal(rows(detector(tmp_path / "turned.png")), reference)
    grey = rows(detector(tmp_path / "grey.png"))
    np.testing.assert_array_equal(grey, rows(detector(np.ascontiguousarray(noise[..., 0]))))
    np.testing.assert_array_equal(grey, rows(detector(np.dstack([noise[..., 0]] * 3))))
    for name, message in (
        ("deep", "16 bits"), ("cut", "decoded whole"), ("empty", "is empty"), ("gone", "not found")
    ):  # fmt: skip
        with pytest.raises(PixelkeepError, match=rf"{name}\.png.*{message}"):
            detector(tmp_path / f"{name}.png")
    for wrong in (noise.astype(np.float32), np.dstack([noise] * 2), noise[:0]):
        with pytest.raises(OptionError, match=r"give uint8 \(height, width, 3\)"):
            detector(wrong)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels__as_the_network_takes_them(tmp_path, noise, channels):
    """Networks of one and of four channels see all channels, in the order of the file."""
    weights = write_weights(tmp_path / "w.pt", channels)
    picture = np.dstack([noise, noise[..., ::-1]])[..., :channels]
    detector = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    np.testing.assert_array_equal(rows(detector(picture)), rows(detector(tmp_path / "a.png")))
    assert_equal(rows(detector(picture[:, :SIDE])), plain(weights, np.ascontiguousarray(picture[:, :SIDE]), SIDE))


def resolved(weights, given=None, **request):
    return Request(**request).resolve(load(weights), given or {})


def test_request__rounded_to_the_stride(weights):
    """Sizes are rounded up to the stride; a requested scale is kept as closely as that allows."""
    assert resolved(weights, tile=100) == resolved(weights, tile=128)
    scaled = resolved(weights, {"imgsz": 200}, tile=100)
    assert (scaled.size, scaled.imgsz) == (100, 224)


@pytest.mark.parametrize(
    "request_, message",
    [
        (dict(tile=31), "--tile 31: give a number of pixels of at least 32, or auto"),
        (dict(tile=64, overlap=0.95), "--overlap 0.95: give a share of a tile from 0 to 0.9"),
        (dict(tile=64, overlap=-0.1), "--overlap -0.1"),
        (dict(tile=64, merge="boarder"), r"--merge boarder: not one of border, nms, ios; did you mean 'border'\?"),
        (dict(overlap=0.1), "--overlap has no effect without --tile"),
        (dict(full_image=True), "--full-image has no effect without --tile"),
        (dict(merge="nms"), "--merge has no effect without --tile"),
    ],
)
def test_request__refused(weights, request_, message):
    """Invalid values and options without effect are refused in one line."""
    with pytest.raises(OptionError, match=message):
        resolved(weights, **request_)


@pytest.mark.parametrize("name", ["augment", "agnostic_nms", "visualize"])
def test_request__settings_without_meaning(weights, name):
    """Settings that have no meaning with tiles are refused."""
    with pytest.raises(OptionError, match=f"--tile and {name}=True exclude each other"):
        resolved(weights, {name: True}, tile=64)


def test_request__image_size_is_one_side(weights):
    """An image size of height and width is refused, because tiles are square."""
    with pytest.raises(OptionError, match="one side, at which the network sees a tile"):
        resolved(weights, {"imgsz": [64, 96]}, tile=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Write a demo dataset of a few images."""
    return write_demo(tmp_path_factory.mktemp("data") / "tiny", splits={"train": 2, "val": 3, "test": 1})


def test_auto__objects_as_large_as_in_training(data, tmp_path):
    """The tile is the training images' longer side if known, otherwise as many pixels as the network's input."""
    side = max(cv2.imread(str(next((data.parent / "images" / "train").iterdir()))).shape)
    known = load(write_weights(tmp_path / "a.pt", imgsz=side // 2, data=str(data)))
    assert suitable_tile(known, None) == (side, side // 2)
    assert suitable_tile(known, side) == (2 * side, side)
    assert suitable_tile(load(write_weights(tmp_path / "b.pt", imgsz=96)), None) == (96, 96)
    assert suitable_tile(load(write_weights(tmp_path / "c.pt", imgsz=96, data="gone.yaml")), 192) == (192, 192)


def call(*words: object, capfd) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    return ended.value.code or 0, *capfd.readouterr()


def test_detect__every_output_in_pixels_of_the_image(weights, noise, tmp_path, capfd):
    """JSON, CSV and label files agree with the detector, for a picture and for the frames of a video."""
    source = tmp_path / "in"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), noise)
    film = cv2.VideoWriter(str(source / "b.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (2 * SIDE, SIDE))
    for _ in range(2):
        film.write(noise)
    film.release()
    (source / "cut.png").write_bytes(b"\x89PNG")
    code, text, _ = call(
        "detect", "--weights", weights, "--source", source, "--tile", SIDE, "--device", "cpu", "--save-json",
        "--save-csv", "--save-txt", "--json", "--project", tmp_path / "runs", capfd=capfd,
    )  # fmt: skip
    summary, folder = json.loads(text), tmp_path / "runs" / "exp"
    assert code == 0 and summary["images"] == 3 and list(summary["unreadable"]) == [str(source / "cut.png")]
    assert summary["tile"] == {"size": SIDE, "imgsz": SIDE, "overlap": 0.2, "full_image": False, "merge": "border"}
    assert summary["seams"]["objects"] == sum(summary["detections"].values())
    records = json.loads((folder / "predictions.json").read_text())
    expected = pixelkeep.TiledDetector(weights, tile=SIDE, device="cpu")(noise)
    own = [record for record in records if record["file_name"] == "a.png"]
    np.testing.assert_allclose([r["bbox"] for r in own], [r["bbox"] for r in expected.to_coco()], atol=1e-3)
    table = (folder / "predictions.csv").read_text().splitlines()
    assert table[0] == "image_id,file_name,frame,category,score,x1,y1,x2,y2" and len(table) == 1 + len(records)
    corners = [[float(value) for value in line.split(",")[5:]] for line in table[1:] if line.split(",")[1] == "a.png"]
    np.testing.assert_allclose(corners, expected.boxes, atol=2e-3)
    label = np.loadtxt(folder / "labels" / "a.txt")
    middle = (expected.boxes[:, :2] + expected.boxes[:, 2:]) / 2
    np.testing.assert_allclose(label[:, 1:3] * [2 * SIDE, SIDE], middle, atol=1e-2)
    assert {r.get("frame") for r in records if r["file_name"] == "b.avi"} == {1, 2}
    assert cv2.VideoCapture(str(folder / "b.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_val__one_tile_equals_plain_validation(data, tmp_path):
    """On images as large as a tile the metrics equal those without tiles, and the protocol records the tiles."""
    weights = write_weights(tmp_path / "w.pt", names=dict(enumerate(CLASSES)))
    side = max(cv2.imread(str(next((data.parent / "images" / "val").iterdir()))).shape)
    common = {
        "data": str(data),
        "imgsz": side,
        "conf": 0.1,
        "device": "cpu",
        "project": str(tmp_path / "runs"),
        "plots": False,
    }
    merged = settings.merge(common, command="val") | {"weights": str(weights)}
    # A single side would be padded by half a stride on every side; height and width are used as they are.
    whole, other = validate({**merged, "imgsz": [side, side]})
    tiled, folder = validate(merged, tiling=Request(tile=side))
    assert whole.AP is not None and whole.protocol.tile is None
    expected = {"size": side, "imgsz": side, "overlap": 0.2, "full_image": False, "merge": "border"}
    assert json.loads((folder / "metrics.json").read_text())["protocol"]["tile"] == expected
    for name in ("AP", "AP50", "AP_S", "AP_M", "AP_L", "AR"):
        assert getattr(whole, name) == pytest.approx(getattr(tiled, name), abs=1e-6), name
    for name in ("conf", "nms_iou", "max_dets", "precision"):
        assert getattr(whole.protocol, name) == getattr(tiled.protocol, name)
    assert json.loads((folder / "seams.json").read_text())["joined"] == 0
    first, second = (np.array(sorted(map(_row, _records(place)))) for place in (other, folder))
    assert len(first) == len(second) > 100
    np.testing.assert_allclose(first[:, :3], second[:, :3], atol=1e-5)


def _records(folder) -> list[dict]:
    return json.loads((folder / "predictions.json").read_text())


def _row(record: dict) -> tuple:
    return record["image_id"], record["category_id"], record["score"], *record["bbox"]


def test_val__cut_images_count_whole_objects(data, tmp_path, capfd):
    """Tiles smaller than the images change neither ground truth nor image count, and compare tells them apart."""
    weights = write_weights(tmp_path / "w.pt", names=dict(enumerate(CLASSES)))
    documents = []
    for name, words in (("whole", []), ("tiled", ["--tile", "128", "--merge", "nms"])):
        given = ["--weights", weights, "--data", data, "--imgsz", 128, "--conf", 0.2, "--device", "cpu", "--json"]
        code, text, _ = call("val", *given, *words, "--project", tmp_path / "runs", "--name", name, capfd=capfd)
        assert code == 0
        documents.append(json.loads(text))
    assert documents[0]["gt_sha256"] == documents[1]["gt_sha256"]
    assert documents[0]["counts"] == documents[1]["counts"] and documents[1]["images"] == 3
    found = json.loads((tmp_path / "runs" / "tiled" / "predictions.json").read_text())
    assert max(x + width for x, _, width, _ in (record["bbox"] for record in found)) > 128
    folders = [tmp_path / "runs" / name for name in ("whole", "tiled")]
    code, _, error = call("compare", *folders, "--project", tmp_path / "compared", capfd=capfd)
    assert code == 2 and "protocol.tile" in error


def test_words__say_how_it_was_done(weights, noise, tmp_path, capfd):
    """detect's summary names the tiles and what remains of the seams."""
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    given = [
        "--weights",
        weights,
        "--source",
        tmp_path / "a.png",
        "--project",
        tmp_path,
        "--no-save",
        "--device",
        "cpu",
    ]
    code, text, _ = call("detect", *given, "--tile", SIDE, "--full-image", capfd=capfd)
    assert code == 0
    words = " ".join(text.split())
    assert f"tiles of {SIDE} px, overlap 0.2, the whole image too, merged by border" in words
    assert "boxes became" in words and "per thousand" in words


@pytest.mark.parametrize("fraction, images", [([1.0, 0.34], 1), ([1.0, 2], 2)])
def test_val__fraction_by_split(data, tmp_path, fraction, images):
    """A fraction of the images of the split is used and counted, with and without tiles."""
    weights = write_weights(tmp_path / "w.pt", names=dict(enumerate(CLASSES)))
    given = {"data": str(data), "imgsz": SIDE, "conf": 0.5, "device": "cpu", "project": str(tmp_path / "runs")}
    merged = settings.merge(given | {"fraction": fraction, "plots": False}, command="val") | {"weights": str(weights)}
    tiled, _ = validate(merged, tiling=Request(tile=SIDE))
    whole, _ = validate(merged)
    assert tiled.images == whole.images == images
    assert tiled.gt_sha256 == whole.gt_sha256
