"""python detect.py: the same as `pixelkeep detect`."""

from pixelkeep.cli.main import run_script

if __name__ == "__main__":
    run_script("detect")
