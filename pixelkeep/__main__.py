"""python -m pixelkeep: the same as the ``pixelkeep`` command."""

from pixelkeep.cli.main import run

if __name__ == "__main__":
    run()
