"""Writes detections in a georeferenced image as GeoJSON, in map coordinates.

Source: RFC 7946. Coordinates are WGS 84 longitude and latitude; rings run anticlockwise and end where they begin.
Coordinates in another system need the ``crs`` member of the first GeoJSON specification (2008), which GDAL and QGIS
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pixelkeep.errors import DataError

WGS84 = "OGC:CRS84"  # longitude first
DIGITS = {True: 9, False: 4}  # decimals of degrees (True) and of metres (False): a tenth of a millimetre


def to_geojson(
    corners: np.ndarray, properties: Sequence[Mapping[str, Any]], crs: Any, transform: Any, own: bool = False
) -> dict[str, Any]:
    """Return polygons as a GeoJSON document.

    Args:
        corners: (n, 4, 2) x, y in pixels of the image, (0, 0) its upper left corner.
        properties: Properties of each polygon.
        crs: Coordinate reference system of the image, a ``CRS`` of rasterio.
        transform: ``Affine`` from pixels to coordinates of that system.
        own: Whether to write coordinates of that system rather than WGS 84.

    Raises:
        DataError: The coordinates are to be in the image's system, which has no name that GeoJSON could give.
    """
    from rasterio.warp import transform_geom

    a, b, c, d, e, f = transform[:6]
    rings = corners @ np.array([[a, d], [b, e]]) + [c, f]
    shapes = [{"type": "Polygon", "coordinates": [_closed(ring)]} for ring in rings]
    if shapes and not own:
        shapes = transform_geom(crs, WGS84, shapes)
    degrees = not own or crs.is_geographic
    features = [
        {"type": "Feature", "geometry": _tidy(shape, DIGITS[degrees]), "properties": dict(of_it)}
        for shape, of_it in zip(shapes, properties, strict=True)
    ]
    named = {"crs": {"type": "name", "properties": {"name": _name(crs)}}} if own else {}
    return {"type": "FeatureCollection", **named, "features": features}


def _name(crs: Any) -> str:
    authority = crs.to_authority()
    if authority is None:
        raise DataError("its reference system has no number (such as EPSG:32632) that GeoJSON could give")
    return f"urn:ogc:def:crs:{authority[0]}::{authority[1]}"


def _closed(ring: np.ndarray) -> list[list[float]]:
    return [*ring.tolist(), ring[0].tolist()]


def _tidy(shape: dict, digits: int) -> dict:
    """Return a polygon with its ring anticlockwise and rounded; it is several if it crossed the 180th meridian."""
    if shape["type"] == "MultiPolygon":
        return {"type": "MultiPolygon", "coordinates": [_rings(part, digits) for part in shape["coordinates"]]}
    return {"type": "Polygon", "coordinates": _rings(shape["coordinates"], digits)}


def _rings(rings: Sequence, digits: int) -> list[list[list[float]]]:
    outer = np.asarray(rings[0], float)[:, :2]
    x, y = (outer - outer[0]).T
    clockwise = (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() < 0
    return [np.round(outer[::-1] if clockwise else outer, digits).tolist()]
