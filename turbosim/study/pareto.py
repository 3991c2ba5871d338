"""Points that no other point beats in every respect, and the volume that they dominate. All values are minimised."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(a: Point, b: Point) -> bool:
    """Whether *a* is nowhere worse than *b*, and somewhere better."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def front(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that no other dominates, sorted by value; equal points are all in it."""
    order = sorted(range(len(points)), key=lambda i: points[i])
    kept: list[int] = []
    for i in order:
        # What dominates a point comes before it in this order.
        if not any(dominates(points[j], points[i]) for j in kept):
            kept.append(i)
    return kept


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Return the volume that *points* dominate, up to *reference*, by slices along the last objective."""
    inside = [p for p in points if all(x < r for x, r in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(p[0] for p in inside)
    kept = sorted((inside[i] for i in front(inside)), key=lambda p: p[-1])
    volume = 0.0
    for n, point in enumerate(kept):
        top = kept[n + 1][-1] if n + 1 < len(kept) else reference[-1]
        if top > point[-1]:
            volume += (top - point[-1]) * hypervolume([p[:-1] for p in kept[:n + 1]], reference[:-1])
    return volume
