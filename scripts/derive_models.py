"""Write models/*.yaml from Ultralytics' own model definitions, by one stated rule for each block.

    spd          the stem becomes Focus; every other strided Conv loses its stride and a SpaceToDepth follows it
    spdconv      every strided Conv becomes an SPDConv with a 3x3 kernel
    slicesamp    every strided Conv becomes a SliceSamp with a 3x3 kernel
    lip          the stem stays; every other strided Conv becomes a LIP with a 3x3 window
    slicesamp-up as slicesamp, and every nn.Upsample becomes a SliceUpsamp of the same width
    keep*, fine*, shallow  candidates at the host's cost, each a `Candidate` below; docs/search.md gives the reasons
    p2, *-p2     a fourth level of detection with stride 4 is added like the others, then the rule applies

Row numbers in "from" are shifted where rows are inserted. The comments in the files give each row's number and, where
it changes, its stride. Run this script after a change of a rule or of Ultralytics' definitions:

    python scripts/derive_models.py            # writes the files
    python scripts/derive_models.py --check    # exit status 1 if a file differs
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep.ultra.network.names import stock_yaml  # noqa: E402
from scripts.model_rows import Row, is_strided, one_level_finer, renumber, strides, with_p2  # noqa: E402

AS_IT_IS = "as it is"  # the rule that changes nothing
MODELS = ROOT / "models"
FAMILIES = {
    "yolov5": (
        *("spd", "spdconv", "slicesamp", "slicesamp-up", "lip", "p2", "spd-p2", "spdconv-p2", "slicesamp-p2"),
        *("keep", "keep-k3", "keep-path", "shallow", "fine", "fine-strided"),
    ),
    "yolov8": ("spd", "spdconv"),
    "yolo11": ("spd", "spdconv"),
    "yolo26": ("spd", "spdconv"),
    "yolo26-sem": ("slicesamp-up",),
}
SUMMARY = {
    "spd": "SPD-Conv as published: convolution at full resolution, then SpaceToDepth (Sunkara & Luo, 2022)",
    "spdconv": "SPD-Conv as its paper words it: SpaceToDepth, then a stride-1 convolution (Sunkara & Luo, 2022)",
    "slicesamp": "SliceSamp for every strided convolution (He & Wang, 2023)",
    "lip": "LIP for every strided convolution but the stem: bottleneck LIP and 1x1 (Gao et al., 2019)",
    "slicesamp-up": "SliceSamp for every strided convolution, SliceUpsamp for every upsampling (He & Wang, 2023)",
    "p2": "with a fourth level of detection, of stride 4",
    "spd-p2": "SPD-Conv as published (Sunkara & Luo, 2022), with a fourth level of detection, of stride 4",
    "spdconv-p2": "SPD-Conv as its paper words it (Sunkara & Luo, 2022), with a fourth level of detection, of stride 4",
    "slicesamp-p2": "SliceSamp for every strided convolution (He & Wang, 2023), and a fourth level, of stride 4",
}


@dataclass(frozen=True)
class Candidate:
    """A network of our own at the host's cost, described by how it changes the host's rows.

    Attributes:
        summary: Description of the network in one phrase, for the first line of its YAML.
        kernels: Kernel size of the convolution after the slices that replace a strided Conv, by level of its output
            (1 to 5 for P1 to P5). Levels that are not named keep their strided Conv.
        widths: New channels at scale 1 by the host's channels, in backbone and head.
        early: New channels at scale 1 by the host's channels, in the backbone alone; they take precedence.
        path: Channels of a path from stride 4 into the block of P3 in the top-down part of the head, through slices and
            a 1x1 convolution; 0 for no such path.
        finer: Whether detection is at strides 4, 8 and 16 instead of 8, 16 and 32; see `one_level_finer`.
    """

    summary: str
    kernels: dict[int, int] = field(default_factory=dict)
    widths: dict[int, int] = field(default_factory=dict)
    early: dict[int, int] = field(default_factory=dict)
    path: int = 0
    finer: bool = False

    def rows(self, stock: dict) -> dict:
        """Return the host's definition with these changes."""
        stock = one_level_finer(stock) if self.finer else stock
        parts, stride = {}, strides([*stock["backbone"], *stock["head"]])
        for part in ("backbone", "head"):
            widths = self.widths | (self.early if part == "backbone" else {})
            parts[part] = [self._row(row, next(stride).bit_length() - 1, widths) for row in stock[part]]
        return self._with_path(stock | parts) if self.path else stock | parts

    def _row(self, row: Row, level: int, widths: dict[int, int]) -> Row:
        source, repeats, module, args = row
        if module in {"Concat", "nn.Upsample", "Detect"}:
            return row
        if is_strided(row) and level in self.kernels:
            module, args = "SPDConv", [args[0], self.kernels[level]]
        return [source, repeats, module, [widths.get(args[0], args[0]), *args[1:]]]

    def _with_path(self, stock: dict) -> dict:
        """Lead the first C3's output, which has stride 4, through an SPDConv into the Concat before the block of P3."""
        backbone, head = stock["backbone"], stock["head"]
        split, p3 = len(backbone), head[-1][0][0]
        join = p3 - 1  # the Concat before the block of P3
        shallow = next(number for number, row in enumerate(backbone) if row[2] == "C3")
        moved = [[renumber(source, join - 1, 1), *rest] for source, *rest in head[join - split :]]
        sources, *rest = head[join - split]
        moved[0] = [[*(join - 1 if source == -1 else source for source in sources), join], *rest]
        path = [shallow, 1, "SPDConv", [self.path, 1]]
        return stock | {"head": [*head[: join - split], path, *moved]}


_SLICED = {level: 1 for level in (2, 3, 4, 5)}
CANDIDATES = {
    "keep": Candidate(
        "slices and a 1x1 for every strided convolution but the stem; what that saves is width at strides 4 and 8",
        _SLICED,
        early={128: 192, 256: 288},
    ),
    "keep-k3": Candidate(
        "slices, with a 3x3 on the way to stride 8 and a 1x1 elsewhere, but for the stem; stride 32 narrower for it",
        _SLICED | {3: 3},
        widths={1024: 768},
    ),
    "keep-path": Candidate(
        "slices and a 1x1 for every strided convolution but the stem, and a way from stride 4 into the block of P3",
        _SLICED,
        early={128: 192},
        path=256,
    ),
    "shallow": Candidate(
        "strided convolutions as they are, width moved from stride 32 to stride 4: what keep is without its slices",
        widths={1024: 768},
        early={128: 160},
    ),
    "fine": Candidate(
        "detection at strides 4, 8 and 16 at the host's cost, slices and a 1x1 for strided convolutions but the stem",
        _SLICED,
        finer=True,
    ),
    "fine-strided": Candidate(
        "detection at strides 4, 8 and 16 at the host's cost, strided convolutions as they are",
        finer=True,
    ),
}


def family(host: str, rule: str) -> str:
    """Return the name of a variant, with the block before the host's task: yolo26-sem gives yolo26-slicesamp-up-sem."""
    base, dash, task = host.partition("-")
    return f"{base}-{rule}{dash}{task}"


def replace(row: Row, rule: str, number: int, width: int) -> list[Row]:
    """Return the rows that replace one row of the host.

    Args:
        row: The host's row.
        rule: Name of the rule, or `AS_IT_IS`.
        number: Row number in the host.
        width: Channels of the row's input at scale 1.
    """
    source, repeats, module, args = row
    if module == "nn.Upsample" and rule == "slicesamp-up":
        return [[source, repeats, "SliceUpsamp", [width]]]
    if not is_strided(row) or rule == AS_IT_IS:
        return [row]
    channels, kernel = args[:2]
    if rule == "spd":
        if number == 0:
            return [[source, repeats, "Focus", [channels, 3]]]
        return [[source, repeats, "Conv", [channels, kernel, 1]], [-1, 1, "SpaceToDepth", []]]
    if rule == "lip":
        return [row] if number == 0 else [[source, repeats, "LIP", [channels, 3]]]
    return [[source, repeats, "SPDConv" if rule == "spdconv" else "SliceSamp", [channels, 3]]]


def prepare(stock: dict, rule: str) -> tuple[dict, str]:
    """Return the definition whose strided convolutions are to be replaced, and the rule that replaces them."""
    if rule in CANDIDATES:
        return CANDIDATES[rule].rows(stock), AS_IT_IS
    if rule.endswith("p2"):
        return with_p2(stock), AS_IT_IS if rule == "p2" else rule.removesuffix("-p2")
    return stock, rule


def derive(stock: dict, rule: str) -> tuple[list[Row], list[Row]]:
    """Return the backbone and the head of the variant."""
    stock, rule = prepare(stock, rule)
    rows: list[Row] = []
    last_of: list[int] = []  # stock row number -> number of the last row that replaces it
    split = len(stock["backbone"])
    widths: list[int] = []  # output channels at scale 1; correct for every row that an nn.Upsample follows
    new_split = 0
    for number, (source, *rest) in enumerate(stock["backbone"] + stock["head"]):
        if number == split:
            new_split = len(rows)
        shifted = [_shift(x, last_of) for x in source] if isinstance(source, list) else _shift(source, last_of)
        width = widths[-1] if widths else 3
        rows += replace([shifted, *rest], rule, number, width)
        last_of.append(len(rows) - 1)
        module, args = rest[1:]
        widths.append(width if module in {"nn.Upsample", "Concat", "Detect"} else args[0])
    return rows[:new_split], rows[new_split:]


def _shift(source: int, last_of: list[int]) -> int:
    """Return a row's "from" renumbered; no host has a relative one other than -1, which would need more work."""
    if source < -1:
        raise ValueError(f"from={source}: only -1 and absolute row numbers are handled")
    return source if source < 0 else last_of[source]


def render(stock: dict, host: str, rule: str) -> str:
    """Return the variant's YAML text."""
    backbone, head = derive(stock, rule)
    lines = [
        f"# {family(host, rule)}: {SUMMARY.get(rule) or CANDIDATES[rule].summary}",
        f"# Derived from Ultralytics' {host}.yaml (AGPL-3.0) by scripts/derive_models.py; scales as there.",
        "",
    ]
    for key, value in prepare(stock, rule)[0].items():
        if key not in {"backbone", "head", "scales"}:
            lines.append(f"{key}: {_flow(value)}")
    lines += ["scales: # [depth, width, max_channels]"]
    lines += [f"  {scale}: {_flow(values)}" for scale, values in stock["scales"].items()]
    stride = strides(backbone + head)
    number, before = 0, 1
    for part, rows in (("backbone", backbone), ("head", head)):
        lines += ["", f"{part}: # [from, repeats, module, arguments]"]
        for row in rows:
            now = next(stride)
            same = now == before or isinstance(row[0], list)  # heads and Concat do not resample
            note = f"{number}" if same else f"{number}-P{now.bit_length() - 1}/{now}"
            lines.append(f"  - {_flow(row)} # {note}")
            number, before = number + 1, now
    return "\n".join(lines) + "\n"


def _flow(value: object) -> str:
    """Return a value in YAML's one-line form, with quotes only for strings that need them."""
    if isinstance(value, list):
        return "[" + ", ".join(_flow(v) for v in value) + "]"
    if isinstance(value, float):
        return f"{value:.2f}"
    return yaml.safe_dump(value, default_flow_style=True).replace("\n...", "").strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 if a file differs")
    check = parser.parse_args().check
    stale = []
    for host, rules in FAMILIES.items():
        stock = yaml.safe_load(stock_yaml(host).read_text(encoding="utf-8"))
        for rule in rules:
            path, text = MODELS / f"{family(host, rule)}.yaml", render(stock, host, rule)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
                if not check:
                    path.write_text(text, encoding="utf-8")
    print(f"{'differ' if check else 'written'}: {', '.join(stale) or 'none'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
