"""pixelkeep export: every option arrives, and bad input is refused in one line before anything is loaded."""

from __future__ import annotations

import pytest

from pixelkeep.cli.main import run
from pixelkeep.ultra.export import exporting


def asked(monkeypatch, *options: str) -> exporting.Request:
    """Return the export request that the command makes."""
    seen = []

    def export(request):
        seen.append(request)
        raise exporting.ExportError("far enough")

    monkeypatch.setattr(exporting, "export", export)
    with pytest.raises(SystemExit):
        run(["export", *options])
    return seen[0]


def test_options__all_arrive(monkeypatch):
    """Each option changes its own field of the request and no other."""
    plain = asked(monkeypatch)
    assert plain == exporting.Request()
    given = {
        "weights": ("a.pt", "a.pt"),
        "format": ("openvino", "openvino"),
        "precision": ("int8", "int8"),
        "imgsz": ("96", 96),
        "batch": ("4", 4),
        "dynamic": (None, True),
        "data": ("demo", "demo"),
        "device": ("cpu", "cpu"),
        "output": ("x", "x"),
        "fold": ("measured", "measured"),
        "bound": ("ap=0.5", ("ap=0.5",)),
    }
    for option, (text, value) in given.items():
        found = vars(asked(monkeypatch, f"--{option}", *([] if text is None else [text])))
        field = "bounds" if option == "bound" else option
        assert {key: v for key, v in found.items() if v != vars(plain)[key]} == {field: value}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "onx"], "did you mean 'onnx'?"),
        (["--format", "onnx", "--precision", "bf16"], "onnx is exported in fp32, fp16, int8"),
        (["--precision", "int8"], "needs --data"),
        (["--format", "engine", "--device", "cpu"], "needs an NVIDIA GPU"),
        (["--format", "ncnn", "--batch", "8"], "ncnn takes one image at a time"),
        (["--weights", "nothing.pt"], "weights 'nothing.pt' not found"),
    ],
)
def test_bad_input__one_line(capsys, options, told):
    """Bad input ends with status 2, one line on standard error and nothing on standard output."""
    with pytest.raises(SystemExit) as ended:
        run(["export", *options])
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and not out
    assert told in err and len(err.strip().splitlines()) == 1
