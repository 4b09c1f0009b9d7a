"""Student's t distribution for any degrees of freedom, whole or not, which numpy does not have.

Source: the tails are the regularised incomplete beta function, computed by its continued fraction (NIST Digital Library
of Mathematical Functions, 8.17.5 and 8.17.22) with Lentz's method.
"""

from __future__ import annotations

import math

TINY = 1e-300  # stands for zero in Lentz's method
EXACT = 1e-15
SETTLED = 1e-10  # a step of Newton's method small enough to stop: the remaining error is of the order of its square
LARGEST = 1e5  # cap on the degrees of freedom, from which the normal distribution is as good


def two_sided(t: float, df: float) -> float:
    """Return the probability of a value of size ``t`` or more, of either sign, at ``df`` > 0 degrees of freedom."""
    df = min(df, LARGEST)
    return _beta(df / (df + t * t), df / 2, 0.5)


def quantile(level: float, df: float) -> float:
    """Return the t that a share ``level`` of all values does not exceed in absolute size, 0 < level < 1."""
    df = min(df, LARGEST)
    size = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    t = 1.0
    for _ in range(100):  # Newton's method for log(tail) as a function of log(t), which is concave
        tail = two_sided(t, df)
        density = math.exp(size - (df + 1) / 2 * math.log1p(t * t / df))
        step = min(0.5, tail * math.log(tail / (1 - level)) / (2 * t * density))  # capped, or the tail could underflow
        t *= math.exp(step)
        if abs(step) < SETTLED:
            break
    return t


def _beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the continued fraction of the other tail converges faster here
        return 1 - _beta(1 - x, b, a)
    size = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(size) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b)."""
    c, d = 1.0, 1 / (_away(1 - (a + b) * x / (a + 1)))
    value = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + step * d)
            c = _away(1 + step / c)
            value *= c * d
        if abs(c * d - 1) < EXACT:
            break
    return value


def _away(value: float) -> float:
    return value if abs(value) > TINY else TINY
