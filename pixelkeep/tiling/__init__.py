"""Large images in tiles: where they lie, what they make of an image, and one set of boxes from theirs.

Knows arrays and boxes, no model: what looks at a tile is a function that is given.
"""

from pixelkeep.tiling.candidates import Candidates
from pixelkeep.tiling.grid import Grid, make_grid
from pixelkeep.tiling.merge import METHODS, Merged, merge
from pixelkeep.tiling.run import detect_in_tiles
from pixelkeep.tiling.seams import Seams

__all__ = ["METHODS", "Candidates", "Grid", "Merged", "Seams", "detect_in_tiles", "make_grid", "merge"]
