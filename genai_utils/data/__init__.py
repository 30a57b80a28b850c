"""Data sets: real digits, toy densities, shapes with known factors, sums and text.

Nothing but :func:`load` of a published set ever asks the network.
"""

from genai_utils.data.bpe import BytePairs
from genai_utils.data.images import digits, load, outlines, shapes
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
from genai_utils.data.sequences import (
    Characters,
    additions,
    answer_mask,
    english,
    split_sums,
    windows,
)
from genai_utils.data.toys import TOYS, toy, toy_centers, toy_log_density

__all__ = [
    "FAULTS",
    "TOYS",
    "BytePairs",
    "Characters",
    "additions",
    "answer_mask",
    "copy_pairs",
    "digits",
    "duplicate_groups",
    "english",
    "load",
    "messy_digits",
    "near_copies",
    "near_duplicates",
    "outlines",
    "perceptual_hash",
    "shapes",
    "shifted",
    "split_sums",
    "toy",
    "toy_centers",
    "toy_log_density",
    "windows",
]
