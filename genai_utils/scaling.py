"""What a larger run will cost and bring: power laws, memory, sums over replicas.

NumPy in, NumPy out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from genai_utils.checks import check_array, check_positive

__all__ = [
    "PowerLaw",
    "fit_power_law",
    "memory_plan",
    "ring_all_reduce",
    "training_flops",
]


@dataclass(frozen=True)
class PowerLaw:
    r"""A loss that falls towards a floor, eq. (36.1) in one variable.

    .. math:: L(x) = E + A\,x^{-a}

    Args:
        floor: ``E``, the irreducible loss, at least 0.
        scale: ``A``, above 0.
        exponent: ``a``.
        covariance: Of ``(E, log A, a)``, shape ``(3, 3)``.
    """

    floor: float
    scale: float
    exponent: float
    covariance: np.ndarray

    @property
    def errors(self) -> tuple[float, float, float]:
        """Standard errors of floor, scale and exponent."""
        e, log_a, a = np.sqrt(np.diag(self.covariance))
        return float(e), float(self.scale * log_a), float(a)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss at ``x`` and its standard error, both of the shape of ``x``.

        The error is that of the fitted curve (delta method).  It knows nothing of a
        law that bends beyond the data.

        Args:
            x: Sizes above 0.
        """
        x = _sizes(x, "x")
        part = self.scale * x**-self.exponent
        slopes = np.stack([np.ones_like(x), part, -part * np.log(x)], axis=-1)
        variance = np.einsum("...i,ij,...j->...", slopes, self.covariance, slopes)
        return self.floor + part, np.sqrt(variance)


def fit_power_law(
    x: np.ndarray, y: np.ndarray, errors: np.ndarray | None = None
) -> PowerLaw:
    r"""Fit ``E + A x**-a`` by least squares in the logarithm of the loss, eq. (36.4).

    .. math:: \min_{E \ge 0, A, a}\ \sum_i
        \Bigl(\frac{\log(E + A x_i^{-a}) - \log y_i}{s_i / y_i}\Bigr)^2

    Args:
        x: Sizes above 0 (examples, weights, operations), shape ``(n,)``, at least four.
        y: Mean losses above 0, same shape.
        errors: Standard errors ``s`` of the losses, same shape; ``None`` where they
            are unknown and taken to be in proportion to the losses.

    Returns:
        The law and the covariance of what was fitted.  Where the scatter about the
        curve is larger than ``errors`` explain, the covariance is that much larger.

    Raises:
        TypeError: If an argument does not hold real numbers.
        ValueError: If there are fewer than four points, the shapes differ or a number
            is not above 0.

    Reference:
        Kaplan et al. (2020), section 3; Hoffmann et al. (2022), section 3.3, who fit
        the logarithm, too, with a loss that forgives outliers.
    """
    x = _sizes(x, "x")
    if x.ndim != 1 or len(x) < 4:
        raise ValueError(
            "`x` must hold at least four sizes, as three numbers are fitted. "
            f"Received: shape {x.shape}. Measure more sizes."
        )
    log_y = np.log(_sizes(y, "y", x.shape))
    weights = np.ones_like(x)
    if errors is not None:
        weights = np.exp(log_y) / _sizes(errors, "errors", x.shape)

    def misses(q: np.ndarray) -> np.ndarray:
        return (np.log(q[0] + np.exp(q[1] - q[2] * np.log(x))) - log_y) * weights

    start, low = _first_guess(np.log(x), np.exp(log_y)), [0.0, -np.inf, -np.inf]
    found = least_squares(misses, start, bounds=(low, np.inf), x_scale="jac")
    excess = 2 * found.cost / (len(x) - 3)  # chi^2 for each degree of freedom
    covariance = np.linalg.pinv(found.jac.T @ found.jac)
    covariance *= excess if errors is None else max(excess, 1.0)
    floor, log_scale, exponent = found.x
    return PowerLaw(float(floor), float(np.exp(log_scale)), float(exponent), covariance)


def _first_guess(log_x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The best ``(E, log A, a)`` on a grid of floors, each with a straight line."""
    best, start = np.inf, None
    for share in (0.01, 0.3, 0.6, 0.8, 0.9, 0.97, 0.99):
        slope, height = np.polyfit(log_x, np.log(y - share * y.min()), 1)
        curve = share * y.min() + np.exp(height + slope * log_x)
        miss = np.square(np.log(curve / y)).sum()
        if miss < best:
            best, start = miss, np.array([share * y.min(), height, -slope])
    return start


def _sizes(x: object, name: str, shape: Sequence[int] | None = None) -> np.ndarray:
    """Return numbers above zero as float64, or say what is wrong."""
    x = check_array(x, name, shape=shape).astype(float)
    if x.min() <= 0:
        raise ValueError(
            f"`{name}` must be above 0. Received: {x.min():.4g}. A power law knows no "
            "zero; leave such points out."
        )
    return x


def training_flops(num_parameters: float, num_tokens: float) -> float:
    r"""Floating-point operations of a training run, eq. (36.7).

    .. math:: C \approx 6\,N\,D

    A multiplication and an addition for each weight and token forwards, and twice as
    many backwards.  Attention adds to it; a tokens' table that is only looked up
    counts too much.

    Args:
        num_parameters: ``N``, weights that multiply.
        num_tokens: ``D``, tokens seen, repeats included.

    Returns:
        The number of operations.

    Raises:
        TypeError: If an argument is not a number.
        ValueError: If an argument is not above zero.

    Reference:
        Kaplan et al. (2020), section 2.1.
    """
    check_positive(num_parameters, "num_parameters")
    check_positive(num_tokens, "num_tokens")
    return 6.0 * num_parameters * num_tokens


def memory_plan(
    num_parameters: int,
    replicas: int = 1,
    stage: int = 0,
    *,
    bytes_each: tuple[int, int, int] = (4, 4, 8),
) -> dict[str, float]:
    r"""Bytes that each replica keeps beside the activations, eq. (36.23).

    Stage 0 copies everything to each of ``p`` replicas.  Stage 1 shares the state of
    the optimizer among them, stage 2 the gradients as well, stage 3 also the weights.

    Args:
        num_parameters: ``N``.
        replicas: ``p``, at least 1.
        stage: 0, 1, 2 or 3.
        bytes_each: For one parameter, bytes of its weight, of its gradient, and of
            what the optimizer keeps (two moments in Adam).

    Returns:
        ``"weights"``, ``"gradients"``, ``"optimizer"`` and their ``"total"``.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is not above zero or the stage is unknown.

    Reference:
        Rajbhandari et al. (2020), figure 1, with 2, 2 and 12 bytes.
    """
    check_positive(num_parameters, "num_parameters")
    check_positive(replicas, "replicas")
    if stage not in (0, 1, 2, 3):
        raise ValueError(
            f"`stage` must be 0, 1, 2 or 3. Received: {stage!r}. Say what is shared: "
            "nothing, optimizer, gradients too, weights too."
        )
    if len(bytes_each) != 3:
        raise ValueError(
            "`bytes_each` must hold three numbers, for a weight, a gradient and the "
            f"optimizer. Received: {bytes_each!r}. Use 0 for what is not kept."
        )
    names = "weights", "gradients", "optimizer"
    plan = {}
    for name, size, shared_from in zip(names, bytes_each, (3, 2, 1), strict=True):
        check_positive(size, f"bytes_each ({name})", zero_ok=True)
        plan[name] = num_parameters * size / (replicas if stage >= shared_from else 1)
    return {**plan, "total": sum(plan.values())}


def ring_all_reduce(parts: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    r"""Give every replica the sum of all arrays, neighbour to neighbour, eq. (36.13).

    Each array is cut into ``p`` pieces.  In ``p - 1`` rounds every replica sends one
    piece to the next, which adds it to its own; in ``p - 1`` more the finished sums
    travel round.

    Args:
        parts: One array for each of ``p`` replicas, all of one shape.

    Returns:
        ``(sums, sent)``: for each replica the sum of all, and the number of values
        that it sent, shape ``(p,)``, about ``2 (p - 1) / p`` of the array's.

    Raises:
        TypeError: If a part does not hold real numbers.
        ValueError: If there is no part, or the shapes differ.

    Reference:
        Patarasuk and Yuan (2009), who show that no algorithm sends less.
    """
    if not len(parts):
        raise ValueError(
            "`parts` must hold an array for each replica. Received: none. Pass a list."
        )
    shape = np.shape(parts[0])
    whole = [check_array(x, "parts", shape=shape).astype(float).ravel() for x in parts]
    p, sent = len(whole), np.zeros(len(whole), int)
    pieces = [np.array_split(x, p) for x in whole]  # views of copies
    for step in range(2 * (p - 1)):
        for r in range(p):
            k = (r - step) % p  # all send in the same moment, each another piece
            new = pieces[r][k]
            k_next = pieces[(r + 1) % p][k]
            k_next[...] = k_next + new if step < p - 1 else new
            sent[r] += new.size
    return [x.reshape(shape) for x in whole], sent
