"""Colours of the pictures: the colour-blind-safe palette of Okabe and Ito (2008), "Color Universal Design"."""

from __future__ import annotations

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
TINTS = ("#B9D9EC", "#F4C9A5", "#B3DFD0", "#EBCFDE", "#F7E1AE", "#D5ECF8")
"""Pale colours of the same hues, told from the full ones by their hatching."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DARK, MEDIUM, LIGHT = "#222222", "#6E6E6E", "#8C8C8C"
BROWN, PURPLE = "#8C510A", "#7B3294"
WAITING = "#DDDDDD"


def ink_on(colour: str) -> str:
    """Return black or white, whichever reads better on *colour* (``#rrggbb``; luma of ITU-R BT.601)."""
    red, green, blue = (int(colour[i:i + 2], 16) for i in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "white"
