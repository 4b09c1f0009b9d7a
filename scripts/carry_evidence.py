"""Pack the work of scripts/evidence.py in parts of a limited size, so that another machine can continue it.

    python scripts/carry_evidence.py pack runs/evidence FOLDER [--limit 60] [--part 15]   # MiB
    python scripts/carry_evidence.py unpack FOLDER runs/evidence

The most important files are packed first: those kept for docs/results, then finished trainings without their weights,
checkpoints of unfinished trainings, and weights. What does not fit any more is left behind and named. A finished
training without weights counts as done, but scoring it on val, and ``--weights``, need its weights.
"""

from __future__ import annotations

import argparse
import io
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

MIB = 1 << 20
PART = "evidence.part{:02d}"
HEAVY = (".pt", ".npy", ".jpg", ".png")


def groups(project: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the name and the files of each group that is packed together, the most important group first."""
    files = [p for p in sorted(project.rglob("*")) if p.is_file() and not p.is_symlink()]
    files = [p for p in files if not any(part.is_symlink() for part in p.parents if project in part.parents)]
    files = [p for p in files if p.relative_to(project).parts[0] not in ("data", "logs") and p.suffix != ".lock"]
    light = [p for p in files if p.suffix not in HEAVY]
    runs = sorted({p.parent for p in files if p.name == "settings.yaml" and "kept" not in p.relative_to(project).parts})
    of_runs = {p: run for run in runs for p in files if run in p.parents}
    pictures = [p for p in files if "kept" in p.parts and p not in light]
    yield "what is kept", [p for p in light if p not in of_runs] + pictures
    done = [run for run in runs if (run / "metrics.json").is_file()]
    for run in runs:
        yield f"{run.relative_to(project)}", [p for p in light if of_runs.get(p) == run]
    for run in (run for run in runs if run not in done):
        yield f"checkpoint of {run.relative_to(project)}", [run / "weights" / name for name in ("last.pt", "best.pt")]
    for run in done:
        yield f"weights of {run.relative_to(project)}", [run / "weights" / "best.pt"]


def pack(project: Path, folder: Path, limit: int, part: int) -> list[str]:
    """Pack a project's files into parts, and return the names of the groups that were left behind.

    Args:
        project: The folder of ``scripts/evidence.py``.
        folder: Where the parts are written; older parts in it are removed.
        limit: Bytes of all parts together at most.
        part: Bytes of one part at most.
    """
    whole, left = io.BytesIO(), []
    with tarfile.open(fileobj=whole, mode="w") as outer:
        for name, files in groups(project):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w:xz") as inner:
                for path in filter(Path.is_file, files):
                    inner.add(path, path.relative_to(project))
            if whole.tell() + content.tell() + 4 * tarfile.BLOCKSIZE > limit - tarfile.RECORDSIZE:
                left.append(name)
                continue
            entry = tarfile.TarInfo(f"{len(outer.getmembers()):04d}.tar.xz")
            entry.size = content.tell()
            content.seek(0)
            outer.addfile(entry, content)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(PART.format(0)[:-2] + "*"):
        old.unlink()
    data = whole.getvalue()
    for number, start in enumerate(range(0, len(data), part)):
        (folder / PART.format(number)).write_bytes(data[start : start + part])
    return left


def unpack(folder: Path, project: Path) -> None:
    """Unpack the parts in a folder; links between contrasts are made again when a contrast begins.

    Raises:
        ValueError: There are no parts in the folder, or they are damaged or incomplete.
    """
    parts = sorted(folder.glob(PART.format(0)[:-2] + "*"))
    if not parts:
        raise ValueError(f"{folder}: no parts in it, {PART.format(0)} and so on; give the folder that pack wrote")
    data = b"".join(path.read_bytes() for path in parts)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as outer:
            for member in outer:
                with tarfile.open(fileobj=outer.extractfile(member), mode="r:xz") as inner:
                    inner.extractall(project, filter="data")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{folder}: parts {parts[0].name} to {parts[-1].name} are damaged or missing") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--limit", type=int, default=60, help="MiB of all parts")
    parser.add_argument("--part", type=int, default=15, help="MiB of one part")
    options = parser.parse_args()
    if not options.source.is_dir():
        print(f"{options.source}: no such folder", file=sys.stderr)
        return 2
    if options.what == "unpack":
        try:
            unpack(options.source, options.target)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    left = pack(options.source, options.target, options.limit * MIB, options.part * MIB)
    print("\n".join(f"left behind: {name}" for name in left) or "all of it is packed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
