"""A generated video of small moving objects with known tracks: a window that pans and shakes over a large scene.

Objects wander, cross each other and pass behind walls. The output of a detector is simulated too: boxes with position
errors, missed objects, low scores as small objects have them, and boxes where there is no object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

MARGIN = 160  # pixels of the scene on each side of the window's path


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What moves in the video and how; lengths are in pixels, speeds in pixels per frame.

    Attributes:
        size: Height and width of a frame.
        frames: Number of frames.
        objects: Number of objects in the scene.
        sides: Smallest and largest side of an object, for width and height alike.
        speeds: Slowest and fastest speed of an object.
        turn: Standard deviation of an object's change of heading per frame, in radians.
        pan: Speed of the window.
        shake: Standard deviation of the window's position around its path, in each frame.
        walls: Number of walls that objects pass behind.
    """

    size: tuple[int, int] = (360, 480)
    frames: int = 60
    objects: int = 150
    sides: tuple[float, float] = (8.0, 16.0)
    speeds: tuple[float, float] = (0.5, 5.0)
    turn: float = 0.06
    pan: float = 1.0
    shake: float = 2.0
    walls: int = 4


@dataclass(frozen=True, kw_only=True)
class Detector:
    """The errors of a simulated detector on the visible objects.

    Attributes:
        jitter: Standard deviation of the position of each side of a box, as a share of the object's shorter side.
        missed: Probability that an object is not reported at all.
        score: Mean score of an object; the standard deviation is a third of it.
        false: Mean number of false positives per frame, whose scores lie around a third of ``score``.
    """

    jitter: float = 0.08
    missed: float = 0.1
    score: float = 0.4
    false: float = 4.0


PERFECT = Detector(jitter=0.0, missed=0.0, score=0.9, false=0.0)
WALL = 36  # width of a wall in pixels


class Moving:
    """A randomly generated video with its ground truth.

    Args:
        motion: What moves and how.
        seed: Seed for everything that is random.

    Attributes:
        truth: For each frame an array (n, 5) with xyxy in pixels of the frame and identity (from 0) of the objects that
            are less than half hidden by walls and more than half inside the frame.
    """

    def __init__(self, motion: Motion, seed: int):
        self.motion = motion
        self._seed = seed
        rng = np.random.default_rng([seed, 0])
        height, width = motion.size
        far = int(motion.pan * motion.frames)
        self._scene_size = (height + 2 * MARGIN, width + far + 2 * MARGIN)
        along = MARGIN + motion.pan * np.arange(motion.frames)
        window = np.stack([along, np.full(motion.frames, float(MARGIN))], 1)
        window = window + rng.normal(0, motion.shake, window.shape)
        self._window = np.clip(np.round(window), 0, MARGIN + far).astype(int)  # left and top
        self._window[:, 1] = np.minimum(self._window[:, 1], 2 * MARGIN)
        self._sides = rng.uniform(*motion.sides, (motion.objects, 2))
        self._centres = self._ways(rng)
        walls = np.linspace(0, self._scene_size[1], motion.walls + 2)[1:-1]
        self._walls = np.round(walls + rng.uniform(-20, 20, motion.walls)).astype(int)
        self._colours = rng.integers(0, 256, (motion.objects, 3))
        self.truth = [self._visible(frame) for frame in range(motion.frames)]

    def _ways(self, rng: np.random.Generator) -> np.ndarray:
        """Return the objects' centres in the scene, (frames, objects, 2); objects that meet its edge turn back."""
        motion, bounds = self.motion, np.array(self._scene_size[::-1], float)
        at = rng.uniform(0, 1, (motion.objects, 2)) * bounds
        heading = rng.uniform(0, 2 * np.pi, motion.objects)
        speed = rng.uniform(*motion.speeds, motion.objects)
        ways = []
        for _ in range(motion.frames):
            ways.append(at)
            heading = heading + rng.normal(0, motion.turn, motion.objects)
            step = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
            outside = ((at + step < 0) | (at + step > bounds)).any(axis=1)
            heading = np.where(outside, heading + np.pi, heading)
            at = at + np.where(outside[:, None], -step, step)
        return np.stack(ways)

    def _visible(self, frame: int) -> np.ndarray:
        """Return the ground truth of a frame, (n, 5)."""
        height, width = self.motion.size
        half = self._sides / 2
        low, high = self._centres[frame] - half, self._centres[frame] + half
        hidden = np.zeros(len(half))
        for left in self._walls:
            covered = np.minimum(high[:, 0], left + WALL) - np.maximum(low[:, 0], left)
            hidden += np.clip(covered, 0, None) / self._sides[:, 0]
        boxes = np.concatenate([low, high], 1) - np.tile(self._window[frame], 2)
        clipped = np.clip(boxes, 0, [width, height, width, height])
        area = (clipped[:, 2] - clipped[:, 0]) * (clipped[:, 3] - clipped[:, 1]) / self._sides.prod(1)
        seen = np.flatnonzero((hidden < 0.5) & (area > 0.5))
        return np.column_stack([clipped[seen], seen])

    def images(self) -> Iterator[np.ndarray]:
        """Yield the frames, uint8 (H, W, 3), BGR."""
        rng = np.random.default_rng([self._seed, 1])
        scene = np.zeros((*self._scene_size, 3), np.float32)
        for blur in (1, 4, 16):
            noise = rng.normal(0, 1, scene.shape).astype(np.float32)
            scene += cv2.GaussianBlur(noise, None, blur) * blur * 25
        ground = np.clip(scene + 110, 0, 255).astype(np.uint8)
        height, width = self.motion.size
        for frame, (left, top) in enumerate(self._window):
            image = ground.copy()
            for centre, side, colour in zip(self._centres[frame], self._sides, self._colours.tolist(), strict=True):
                corners = np.round(np.concatenate([centre - side / 2, centre + side / 2])).astype(int).tolist()
                cv2.rectangle(image, corners[:2], [c - 1 for c in corners[2:]], colour, -1)
            for wall in self._walls:
                image[:, wall : wall + WALL] = ground[:, wall : wall + WALL] // 3
            yield np.ascontiguousarray(image[top : top + height, left : left + width])

    def detections(self, detector: Detector) -> Iterator[np.ndarray]:
        """Yield the simulated detections of each frame, float32 (n, 6): xyxy, score and class 0, best score first."""
        rng = np.random.default_rng([self._seed, 2])
        height, width = self.motion.size
        for truth in self.truth:
            boxes = truth[rng.random(len(truth)) >= detector.missed, :4]
            short = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
            boxes = boxes + rng.normal(0, 1, boxes.shape) * (detector.jitter * short)[:, None]
            scores = rng.normal(detector.score, detector.score / 3, len(boxes))
            centres = rng.uniform(0, 1, (rng.poisson(detector.false), 2)) * (width, height)
            sides = rng.uniform(*self.motion.sides, centres.shape)
            wrong = np.concatenate([centres - sides / 2, centres + sides / 2], 1)
            unsure = rng.normal(detector.score / 3, detector.score / 6, len(wrong))
            boxes, scores = np.concatenate([boxes, wrong]), np.concatenate([scores, unsure])
            scores = np.clip(scores, 0.01, 0.99)
            order = np.argsort(-scores, kind="stable")
            yield np.column_stack([boxes, scores, np.zeros(len(boxes))])[order].astype(np.float32)
