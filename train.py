"""python train.py: the same as `pixelkeep train`."""

from pixelkeep.cli.main import run_script

if __name__ == "__main__":
    run_script("train")
