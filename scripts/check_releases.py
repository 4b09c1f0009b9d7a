"""Run the tests against several releases of Ultralytics; the range in setup.cfg is the one that has passed.

python scripts/check_releases.py                       the oldest supported, a middle one and the newest
python scripts/check_releases.py 8.4.150 8.4.160       these releases
python scripts/check_releases.py 8.4.150 -- -m slow    with arguments for pytest

Each release is installed into the cache folder, without its dependencies, and imported instead of the installed one.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pixelkeep import assets  # noqa: E402

TESTS = ("tests/ultra", "tests/cli", "tests/test_end_to_end.py")


def oldest() -> str:
    """Return the lowest release that setup.cfg declares."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return re.search(r"ultralytics>=([\d.]+)", setup["options"]["install_requires"])[1]


def default_releases() -> list[str]:
    """Return the oldest supported release, the newest, and one from the middle of the releases between them."""
    since = [release for release in published() if _order(release) >= _order(oldest())]
    return list(dict.fromkeys([since[0], since[len(since) // 2], since[-1]]))


def published() -> list[str]:
    """Return the releases that pip finds in its index, oldest first."""
    command = [sys.executable, "-m", "pip", "index", "versions", "ultralytics"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    listed = re.search(r"Available versions: (.*)", answer)[1].split(", ")
    return sorted((release for release in listed if re.fullmatch(r"\d+\.\d+\.\d+", release)), key=_order)


def _order(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def unpack(release: str) -> Path:
    """Install a release into a folder of its own, and return the folder."""
    folder = assets.home() / "releases" / release
    if not (folder / "ultralytics").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, f"ultralytics=={release}"], check=True)
    return folder


def check(release: str, arguments: list[str]) -> tuple[bool, str]:
    """Run the tests with a release; return whether they passed, and pytest's last line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(unpack(release)), str(ROOT)])}
    found = subprocess.run(
        [sys.executable, "-c", "import ultralytics; print(ultralytics.__version__)"],
        env={**environment, "YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(assets.home() / "releases")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert found[-1] == release, f"{found[-1]} was imported instead of {release}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "-m", "not slow", *arguments]
    run = subprocess.run([*command, *TESTS], cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = run.stdout.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print(*failed, sep="\n", file=sys.stderr)
    return run.returncode == 0, lines[-1].strip("= ") if lines else "no output"


def main() -> int:
    """Check the releases named on the command line, or the default ones."""
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    releases, arguments = given[:cut], given[cut + 1 :]
    passed = True
    for release in releases or default_releases():
        good, line = check(release, arguments)
        passed &= good
        print(f"ultralytics {release:<10} {'passed' if good else 'FAILED'}  {line}", flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
