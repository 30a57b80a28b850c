"""Data sets: real digits, toy densities that are known, shapes with known factors.

Nothing but :func:`load` of a published set ever asks the network.
"""

from genai_utils.data.images import digits, load, shapes
from genai_utils.data.mess import (
    FAULTS,
    copy_pairs,
    duplicate_groups,
    messy_digits,
    near_copies,
    near_duplicates,
    perceptual_hash,
    shifted,
)
from genai_utils.data.toys import TOYS, toy, toy_centers, toy_log_density

__all__ = [
    "FAULTS",
    "TOYS",
    "copy_pairs",
    "digits",
    "duplicate_groups",
    "load",
    "messy_digits",
    "near_copies",
    "near_duplicates",
    "perceptual_hash",
    "shapes",
    "shifted",
    "toy",
    "toy_centers",
    "toy_log_density",
]
