"""Simulated detectors of known skill: what they find, miss and invent on images that do not exist.

Each object has a difficulty that all detectors share, so that two detectors mostly find the same objects, as with real
models. Each trained run adds its own random variation, for every object and as a whole.
"""

import numpy as np

from pixelkeep.evaluation import Detections, GroundTruthBuilder

SIDE, PER_IMAGE = 640, 7


class World:
    """Images with objects of two classes, two thirds of which are small."""

    def __init__(self, images, seed):
        rng = np.random.default_rng((seed, 0))
        self.images = images
        self.image = np.repeat(np.arange(images), PER_IMAGE)
        sides = np.exp(rng.uniform(np.log(8), np.log(64), (len(self.image), 2)))
        self.boxes = np.hstack([rng.uniform(0, SIDE - sides), sides])
        self.label = rng.integers(0, 2, len(self.image))
        image_difficulty = rng.normal(0, 0.1, images)[self.image]
        self.difficulty = rng.uniform(0, 1, len(self.image)) + image_difficulty
        builder = GroundTruthBuilder(["ant", "bee"])
        corners = np.hstack([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]])
        for index in range(images):
            ours = self.image == index
            builder.add_image(f"{index}.jpg", SIDE, SIDE, corners[ours], self.label[ours])
        self.truth = builder.build()

    def detect(self, skill, seed, spread=0.0):
        """Return a run's detections: ``skill`` is the share of objects found, ``spread`` its deviation over runs."""
        rng = np.random.default_rng((seed, 1))
        skill += spread * rng.normal()
        found = self.difficulty + rng.normal(0, 0.15, len(self.image)) < skill
        boxes = self.boxes[found] * 1.0
        boxes += rng.normal(0, 0.06, boxes.shape) * self.boxes[found][:, [2, 3, 2, 3]]
        scores = np.clip(0.9 - 0.5 * self.difficulty[found] + rng.normal(0, 0.1, len(boxes)), 0.01, 1)
        wrong = rng.poisson(2 * self.images)
        invented = np.hstack([rng.uniform(0, SIDE / 2, (wrong, 2)), rng.uniform(8, 64, (wrong, 2))])
        boxes = np.vstack([boxes, invented])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1)
        return Detections(
            np.concatenate([self.image[found], rng.integers(0, self.images, wrong)]) + 1,
            np.concatenate([self.label[found], rng.integers(0, 2, wrong)]) + 1,
            boxes,
            np.concatenate([scores, rng.beta(1, 4, wrong)]),
        )

    def arm(self, skill, seeds, spread=0.0):
        """Return the detections of the runs with these seeds."""
        return [self.detect(skill, seed, spread) for seed in seeds]
