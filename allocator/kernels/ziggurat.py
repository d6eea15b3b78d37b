"""The layers of the normal ziggurat: strips of equal area under exp(−x²/2). The lowest one includes the tail."""

import math

import numpy as np
from numpy.typing import NDArray

LAYERS = 256
TAIL_START = 3.6541528853610088  # of 256 layers (Marsaglia and Tsang, 2000)


def _widths() -> NDArray[np.float64]:
    density = math.exp(-0.5 * TAIL_START**2)
    area = TAIL_START * density + math.sqrt(math.pi / 2) * math.erfc(TAIL_START / math.sqrt(2))
    widths = np.zeros(LAYERS + 1)
    widths[0] = area / density
    widths[1] = TAIL_START
    for layer in range(2, LAYERS):
        density += area / widths[layer - 1]
        widths[layer] = math.sqrt(-2.0 * math.log(density))
    return widths


WIDTHS = _widths()
RATIOS = WIDTHS[1:] / WIDTHS[:-1]
