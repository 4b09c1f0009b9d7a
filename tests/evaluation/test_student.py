"""Proves Student's t functions against SciPy, which the package itself does not need."""

import numpy as np
import pytest
from scipy import stats

from pixelkeep.evaluation.student import quantile, two_sided

FREEDOM = [1, 1.5, 2, 3.7, 4, 12, 99, 4999, 1e5]


@pytest.mark.parametrize("df", FREEDOM)
def test_two_sided__equals_scipy(df):
    """The two-sided p value equals SciPy's, from the centre to far out in the tails."""
    t = np.array([0, 1e-3, 0.1, 0.7, 1, 2, 4.3, 12.7, 30])
    found = np.array([two_sided(value, df) for value in t.tolist()])
    np.testing.assert_allclose(found, 2 * stats.t.sf(t, df), rtol=1e-8)
    assert two_sided(-2, df) == two_sided(2, df)


@pytest.mark.parametrize("df", FREEDOM)
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantile__equals_scipy(df, level):
    """The half-width of an interval in standard errors equals SciPy's."""
    assert quantile(level, df) == pytest.approx(stats.t.ppf((1 + level) / 2, df), rel=1e-7)
