"""Data sets: real digits, toy densities that are known, shapes with known factors.

Nothing but :func:`load` of a published set ever asks the network.
"""

from genai_utils.data.images import digits, load, shapes
from genai_utils.data.toys import TOYS, toy, toy_centers, toy_log_density

__all__ = [
    "TOYS",
    "digits",
    "load",
    "shapes",
    "toy",
    "toy_centers",
    "toy_log_density",
]
