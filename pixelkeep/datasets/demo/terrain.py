"""The ground of the demo's scenes: grass, ploughed fields, roads, paved yards and water, with texture at every scale.

`Terrain` holds the picture so far and the kind of ground at each pixel, so that boats float and cars do not. Everything
is drawn at the final size, except for yards, plazas and painted lines, which are drawn enlarged and then shrunk.
"""

from __future__ import annotations

import cv2
import numpy as np

from pixelkeep.datasets.demo.painter import ENLARGE

GRASS, PAVED, ROAD, WATER = 0, 1, 2, 3

GREENS = [(62, 118, 104), (70, 126, 120), (66, 110, 92), (84, 138, 140)]
SOILS = [(92, 128, 158), (84, 110, 134), (98, 148, 168), (66, 126, 112), (92, 160, 176)]
ASPHALTS = [(104, 104, 106), (92, 92, 95), (116, 114, 112)]
PAVINGS = [(160, 165, 170), (148, 156, 164), (152, 150, 146)]
WATERS = [(120, 96, 48), (112, 100, 62), (128, 106, 40)]
SAND = np.array([150, 185, 205], np.float32)
JETTY = np.array([130, 165, 190], np.float32)
PAINT = np.array([215, 222, 224], np.float32)


class Terrain:
    """A picture of the ground.

    Attributes:
        picture: Float32 (H, W, 3), BGR from 0 to 255.
        zone: Uint8 (H, W), the kind of ground at each pixel: GRASS, PAVED, ROAD or WATER.
        headings: For each road (x, y, angle) of its centre line, for placing what drives on it.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        """Cover the whole picture with textured grass."""
        self.rng = rng
        self.zone = np.full((height, width), GRASS, np.uint8)
        self.headings: list[tuple[float, float, float]] = []
        ys, xs = np.mgrid[:height, :width].astype(np.float32)
        self._xs, self._ys = xs, ys
        self.picture = self._textured(GREENS, 0.13)
        self._speckle(0.05, 0.0)

    def fields(self) -> None:
        """Replace part of the grass with two or three fields with furrows, each at its own angle."""
        for _ in range(self.rng.integers(2, 4)):
            angle = self.rng.uniform(0, np.pi)
            far = self._across(self._somewhere(), angle)
            wavy = far + 3 * self._noise(60)
            mask = _soft(wavy) * _soft(self.rng.uniform(60, 150) - wavy)
            colour = self._textured(SOILS, 0.09)
            furrows = np.sin(self._across((0, 0), angle + np.pi / 2) * (2 * np.pi / self.rng.uniform(5, 9)))
            colour *= 1 + 0.05 * furrows[..., None] + 0.03 * self._noise(3)[..., None]
            self._blend(mask, colour)

    def yard(self, share: float) -> None:
        """Pave a rotated rectangle, its sides about ``share`` of the picture's, with joints between the slabs."""
        height, width = self.zone.shape
        centre = self._somewhere(0.35)
        angle = self.rng.uniform(0, np.pi)
        size = share * np.array([width, height]) * self.rng.uniform(0.85, 1.15, 2)
        mask = self._enlarged([_corners(centre, angle, *size)])
        colour = self._textured(PAVINGS, 0.05)
        slab = self.rng.uniform(16, 26)
        for turn in (0, np.pi / 2):
            far = np.abs(self._across(centre, angle + turn) % slab - slab / 2)
            colour *= 1 - 0.13 * _soft(0.6 - far)[..., None]
        self._blend(mask, colour, PAVED)

    def road(self, breadth: float) -> None:
        """Draw a straight road across the whole picture, with edge lines and a dashed centre line."""
        x, y = centre = self._somewhere(0.3)
        angle = self.rng.uniform(0, np.pi)
        self.headings.append((x, y, angle))
        self._strip(centre, angle, breadth + 5, self._textured(SOILS, 0.08), 0.7)
        self._strip(centre, angle, breadth, self._textured(ASPHALTS, 0.05), 1.0, ROAD)
        side = np.array([-np.sin(angle), np.cos(angle)])
        for shift in (-1, 1):
            self._strip(centre + shift * (0.5 * breadth - 2) * side, angle, 0.9, PAINT, 0.75)
        along = np.array([np.cos(angle), np.sin(angle)])
        reach = float(np.hypot(*self.zone.shape))
        dashes = [_corners(centre + s * along, angle, 7, 1.0) for s in np.arange(-reach, reach, 16)]
        self._blend(0.8 * self._enlarged(dashes), PAINT)

    def water(self, share: float) -> None:
        """Flood about ``share`` of the picture from one side, with a shore of sand, shallows and ripples."""
        angle = self.rng.uniform(0, 2 * np.pi)
        far = self._across((0, 0), angle) + 11 * self._noise(70) + 2 * self._noise(14)
        far -= np.quantile(far, 1 - share)
        self._blend(_soft((far + 7) / 2.5), SAND * (1 + 0.05 * self._noise(4)[..., None]))
        depth = np.clip(far / 60, 0, 1)[..., None]
        colour = self._textured(WATERS, 0.06) * (1.3 - 0.38 * depth)
        turn = self.rng.uniform(0, np.pi)
        ripples = self._across((0, 0), turn) + 2.2 * self._noise(10)
        ripples = np.sin(ripples * (2 * np.pi / self.rng.uniform(6, 9))) * np.clip(self._noise(18) + 0.4, 0, 1.6)
        colour += 6 * ripples[..., None] + 3 * self._noise(2)[..., None]
        mask = _soft(far / 1.5)
        self._blend(mask, colour, WATER)
        foam = np.exp(-(((far - 1.5) / 1.4) ** 2)) * np.clip(self._noise(8) + 0.3, 0, 1)
        self._blend(0.6 * foam, np.float32([235, 238, 235]))

    def plaza(self, box: tuple[int, int, int, int], asphalt: bool) -> None:
        """Pave the inside of ``box`` = (x1, y1, x2, y2) as a car park (``asphalt``) or as a square."""
        x1, y1, x2, y2 = box
        corners = np.float32([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
        self._blend(self._enlarged([corners]), self._textured(ASPHALTS if asphalt else PAVINGS, 0.05), PAVED)

    def lines(self, segments: list[tuple[float, float, float, float]], breadth: float, colour: np.ndarray) -> None:
        """Draw parking lines or jetties, each given by (x1, y1, x2, y2)."""
        quads = []
        for x1, y1, x2, y2 in segments:
            angle = np.arctan2(y2 - y1, x2 - x1)
            quads.append(_corners(np.array([(x1 + x2) / 2, (y1 + y2) / 2]), angle, np.hypot(x2 - x1, y2 - y1), breadth))
        self._blend(0.7 * self._enlarged(quads), colour)

    def _somewhere(self, margin: float = 0.15) -> np.ndarray:
        height, width = self.zone.shape
        return self.rng.uniform(margin, 1 - margin, 2) * [width, height]

    def _across(self, centre: tuple[float, float] | np.ndarray, angle: float) -> np.ndarray:
        """Return the signed distance (H, W) of each pixel from the line through ``centre`` at ``angle``."""
        return (self._ys - centre[1]) * np.float32(np.cos(angle)) - (self._xs - centre[0]) * np.float32(np.sin(angle))

    def _noise(self, scale: float) -> np.ndarray:
        """Return smooth noise (H, W) of mean 0 and standard deviation about 0.8, with features of ``scale`` pixels."""
        height, width = self.zone.shape
        grid = self.rng.standard_normal((int(height / scale) + 3, int(width / scale) + 3), np.float32)
        grown = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return grown[int(scale) :, int(scale) :][:height, :width]

    def _textured(self, colours: list, contrast: float) -> np.ndarray:
        """Return a random one of ``colours`` as (H, W, 3), with clouds of brightness and hue in four octaves."""
        base = np.asarray(colours[self.rng.integers(len(colours))], np.float32) + self.rng.normal(0, 5, 3)
        light = sum(w * self._noise(s) for s, w in ((64, 0.5), (24, 0.35), (9, 0.3), (3, 0.3)))
        hue = self._noise(40)[..., None] * np.float32([-4, 1, 5])
        return (base.astype(np.float32) + hue) * (1 + contrast * light[..., None])

    def _speckle(self, share: float, threshold: float) -> None:
        """Add tufts to the picture: dark dots in clumps."""
        clumps = np.clip(self._noise(30) - threshold, 0, 2)
        dots = cv2.GaussianBlur(self.rng.standard_normal(self.zone.shape, np.float32), (0, 0), 0.9)
        self.picture *= 1 - share * 4 * (clumps * np.clip(dots - 0.25, 0, 1))[..., None]

    def _enlarged(self, polygons: list[np.ndarray]) -> np.ndarray:
        """Return the coverage (H, W), 0 to 1, of polygons given in pixels."""
        height, width = self.zone.shape
        canvas = np.zeros((height * ENLARGE, width * ENLARGE), np.uint8)
        for polygon in polygons:
            cv2.fillPoly(canvas, [np.round((polygon * ENLARGE - 0.5) * 16).astype(np.int32)], 255, shift=4)
        return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    def _strip(
        self,
        centre: np.ndarray,
        angle: float,
        breadth: float,
        colour: np.ndarray,
        opacity: float,
        zone: int | None = None,
    ) -> None:
        """Blend a band of ``breadth`` pixels along the line through ``centre`` at ``angle``."""
        self._blend(opacity * _soft(breadth / 2 - np.abs(self._across(centre, angle))), colour, zone)

    def _blend(self, mask: np.ndarray, colour: np.ndarray, zone: int | None = None) -> None:
        self.picture += mask[..., None] * (colour - self.picture)
        if zone is not None:
            self.zone[mask > 0.5] = zone


def _soft(distance: np.ndarray) -> np.ndarray:
    """Return the coverage of pixels from their signed distance to an edge: 0 outside, 1 inside, a ramp of one pixel."""
    return np.clip(distance + 0.5, 0, 1)


def _corners(centre: np.ndarray, angle: float, length: float, breadth: float) -> np.ndarray:
    """Return the corners (4, 2) of a rectangle rotated by ``angle``."""
    along = 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    side = 0.5 * breadth * np.array([-np.sin(angle), np.cos(angle)])
    return np.stack([centre - along - side, centre + along - side, centre + along + side, centre - along + side])
