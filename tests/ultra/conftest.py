"""What tests of the Ultralytics side share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ultralytics.nn.modules import Conv


@pytest.fixture(autouse=True)
def default_activation() -> Iterator[None]:
    """Give back the default activation: the stock parser of older releases leaves that of a YAML behind."""
    activation = Conv.default_act
    yield
    Conv.default_act = activation
