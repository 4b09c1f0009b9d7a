"""Detection in large images by tiles: where the tiles lie, what is found in them, and merging it into one set of boxes.

This package works with arrays and boxes and knows no model: the function that detects objects in tiles is an argument.
"""

from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid, make_grid
from pixelkeep.tiling.merge import METHODS, Merged, merge
from pixelkeep.tiling.run import detect_in_tiles
from pixelkeep.tiling.seams import Seams

__all__ = ["METHODS", "Candidates", "Grid", "Merged", "Seams", "detect_in_tiles", "make_grid", "merge"]
