"""A line as small as a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from billing_portal.portal.charts.frame import number


@dataclass(frozen=True)
class Sparkline:
    width: int
    height: int
    line: str
    area: str


def of(values: Sequence[int], *, width: int = 80, height: int = 24) -> Sparkline:
    """Return the path of a small line through `values`, the last at the right edge, and of the area below it.

    The base is zero, so that a flat line high up reads as steady and not as nothing.
    """
    top = max([*values, 1])
    step = Fraction(width, max(len(values) - 1, 1))
    inset = 2
    points = [
        f"{number(step * index)} {number(height - inset - Fraction(max(value, 0), top) * (height - 2 * inset))}"
        for index, value in enumerate(values)
    ]
    if len(points) == 1:
        points.append(f"{width} {points[0].split()[1]}")
    line = "M" + "L".join(points) if points else ""
    area = f"{line}L{width} {height}L0 {height}Z" if points else ""
    return Sparkline(width=width, height=height, line=line, area=area)
