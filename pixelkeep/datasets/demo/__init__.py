"""The demo datasets: aerial scenes of small objects, drawn in seconds and identical for the same seed."""

from pixelkeep.datasets.demo.detection import CROWDED, FORMS, NAMES, SIZE, SPLITS, demo_scene, write_demo
from pixelkeep.datasets.demo.objects import CLASSES

__all__ = ["CLASSES", "CROWDED", "FORMS", "NAMES", "SIZE", "SPLITS", "demo_scene", "write_demo"]
