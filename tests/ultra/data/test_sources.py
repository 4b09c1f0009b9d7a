"""Sources of detection: everything that can be processed is accepted, anything else is refused before a model loads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pixelkeep.errors import SourceError
from pixelkeep.ultra.data.sources import download, is_file_address, is_live, resolve_sources

BLACK = np.zeros((16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with images, a video and lists of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for name in ("a.png", "pictures/b.JPG", "pictures/more/c.png"):
        cv2.imwrite(name, BLACK)
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5, (16, 16))
    writer.write(BLACK)
    writer.release()
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "list.txt").write_text("a.png\n\npictures/b.JPG\n", encoding="utf-8-sig")
    (tmp_path / "pictures" / "list.txt").write_text("b.JPG\n")
    (tmp_path / "list.csv").write_text("source\na.png,film.avi\n")
    (tmp_path / "cameras.streams").write_text("rtsp://camera/1\n")
    return tmp_path


@pytest.mark.parametrize("source", ["cameras.streams", "0", "rtsp://camera/1", "HTTPS://host/a.png"])
def test_live_source__as_given(source):
    """A webcam, a stream or an address goes to Ultralytics as it was given."""
    assert resolve_sources([source]) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.png", ["a.png"]),
        ("film.avi", ["film.avi"]),
        ("pictures", ["pictures/b.JPG"]),
        ("*.png", ["a.png"]),
        ("[ab].p?g", ["a.png"]),
        ("**/c.png", ["pictures/more/c.png"]),
        ("list.txt", ["a.png", "pictures/b.JPG"]),
        ("pictures/list.txt", ["pictures/b.JPG"]),
        ("list.csv", ["a.png", "film.avi"]),
    ],
)
def test_one_source__its_files(folder, source, expected):
    """A file, folder, glob or list becomes the files it stands for, whatever Ultralytics itself would expand."""
    assert resolve_sources([source]) == [str((folder / name).resolve()) for name in expected]


def test_several_sources__their_files(folder):
    """Several sources become the files they stand for, lists and globs included."""
    found = resolve_sources(["film.avi", "pictures", "pictures/list.txt", "**/c.png", "list.csv"])
    expected = ["film.avi", "pictures/b.JPG", "pictures/b.JPG", "pictures/more/c.png", "a.png", "film.avi"]
    assert found == [str(folder.resolve() / name) for name in expected]


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("0", True),
        ("rtsp://camera", True),
        ("TCP://camera", True),
        ("my.STREAMS", True),
        ("a.png", False),
        ("http://host/film.mp4", False),
        ("http://host:8080/video", True),
    ],
)
def test_live__never_ends(source, live):
    """Webcams and streams are live; files and addresses of files are not."""
    assert is_live(source) is live


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], "no source given: pass --source"),
        (["b.png"], "source 'b.png' not found; did you mean 'a.png'?"),
        (["pictures/b.JPEG"], "source 'pictures/b.JPEG' not found; did you mean 'b.JPG'?"),
        (["nowhere/x.png"], "source 'nowhere/x.png' not found"),
        (["~nobody-here/x.png"], "not found"),
        (["screen"], "source 'screen' not found"),
        (["*.gif"], "source '.*gif': no images or videos there"),
        (["nothing"], "source 'nothing': no images or videos there"),
        (["notes.md"], "'.md' is neither an image .*png.* nor a video .*mp4"),
        (["empty.png"], "source 'empty.png': the file is empty"),
        (["empty.txt"], "source 'empty.txt': the file is empty"),
        (["empty.streams"], "source 'empty.streams': the file is empty"),
        (["blank.txt"], "source 'blank.txt': no images or videos there"),
        (["binary.txt"], "source 'binary.txt': the list is not a text file"),
        (["lost.txt"], "source 'lost.txt': it lists 'gone.png', which is neither here nor in"),
        (["noise.mp4"], "source 'noise.mp4': cannot be opened as a video"),
        (["a.png", "b.png"], "source 'b.png' not found"),
        (["a.png", "0"], "source '0': a webcam, an address or a .streams file must be the only source"),
        (["http://host/a.png", "a.png"], "must be the only source"),
        (["a.png", "cameras.streams"], "must be the only source"),
    ],
)
def test_bad_source__one_line(folder, sources, message):
    """What is missing, empty, damaged or of another kind is named in one line."""
    (folder / "nothing").mkdir()
    for name in ("empty.png", "empty.txt", "empty.streams"):
        (folder / name).touch()
    (folder / "blank.txt").write_text("\n\n")
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x80")
    (folder / "lost.txt").write_text("a.png\ngone.png\n")
    (folder / "noise.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(SourceError, match=message) as error:
        resolve_sources(sources)
    assert "\n" not in str(error.value)


def test_again__damaged_files_wait_for_their_turn(folder):
    """The files of a folder are accepted again, an empty one among them; a file that is gone is an error."""
    (folder / "pictures" / "empty.png").touch()
    files = resolve_sources(["pictures"])
    assert any(file.endswith("empty.png") for file in files)
    assert resolve_sources(files, again=True) == files
    (folder / "pictures" / "empty.png").unlink()
    with pytest.raises(SourceError, match="not found"):
        resolve_sources(files, again=True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://host/a.jpg?size=2", True),
        ("HTTP://host/film.MP4", True),
        ("https://host/camera", False),
        ("rtsp://host/film.mp4", False),
        ("a.jpg", False),
    ],
)
def test_address__of_a_file(source, expected):
    """A web address that ends like a picture or video is downloaded; any other address is watched."""
    assert is_file_address(source) == expected


def test_download__that_fails_is_told(tmp_path):
    """An address that cannot be reached is reported in one line, and leaves no partial download."""
    with pytest.raises(SourceError, match=r"source 'http://host/a\.png' cannot be downloaded \(.*\); is the address"):
        download("http://host/a.png", tmp_path / "downloads")
    assert not [path for path in (tmp_path / "downloads").rglob("*") if path.is_file()]
