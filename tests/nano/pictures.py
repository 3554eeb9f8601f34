"""Made pictures that several tests of nano look at."""

import numpy as np


def textured(side=192):
    """A picture with detail everywhere, for optical flow to hold on to."""
    rng = np.random.default_rng(5)
    picture = np.zeros((side, side, 3), np.float32)
    for cells in (6, 12, 24, 48):
        picture += np.kron(rng.random((cells, cells, 3)), np.ones((side // cells, side // cells, 1))) / 4
    return picture.astype(np.float32)
