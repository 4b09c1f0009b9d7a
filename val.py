"""python val.py: the same as `pixelkeep val`."""

from pixelkeep.cli.main import run_script

if __name__ == "__main__":
    run_script("val")
