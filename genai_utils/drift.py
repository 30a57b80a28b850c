"""Has the stream changed?  Tests for drift whose false alarms are known.

NumPy in, NumPy out.  Each detector says how often it cries wolf where nothing has
changed: a p-value, a threshold for a rate of false alarms, or a mean run length.
Equations are those of chapter 35.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import chi2

from genai_utils.checks import check_array, check_positive, check_whole

__all__ = [
    "Cusum",
    "always_valid_p",
    "benjamini_hochberg",
    "bonferroni",
    "cusum_run_length",
    "ks_test",
    "mmd_test",
    "population_stability_index",
    "psi_threshold",
]

_PSEUDO = 0.5  # added to each bin's count, so that an empty bin stays finite


def ks_test(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    r"""Kolmogorov-Smirnov test of one feature: do two samples share a distribution?

    .. math:: D = \sup_x |F_a(x) - F_b(x)|, \qquad
        P\Bigl(\sqrt{\tfrac{nm}{n+m}}\,D > t\Bigr) \to
        2\sum_{j\ge1}(-1)^{j-1}e^{-2j^2t^2}

    Eqs. (35.2) and (35.3).  The p-value is that of the limit, which is on the safe
    side for small samples and for values that occur more than once.

    Args:
        a: Values ``(n,)`` of the reference.
        b: Values ``(m,)`` of the new batch.

    Returns:
        ``(D, p_value)``, both in [0, 1].

    Raises:
        ValueError: If a sample is empty, has more than one axis, or is not finite.

    Reference:
        Kolmogorov (1933); Smirnov (1948).
    """
    a = np.sort(check_array(a, "a", ndim=1))
    b = np.sort(check_array(b, "b", ndim=1))
    points = np.concatenate([a, b])
    share_a = np.searchsorted(a, points, side="right") / len(a)
    share_b = np.searchsorted(b, points, side="right") / len(b)
    distance = float(np.abs(share_a - share_b).max())
    scale = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    return distance, float(kolmogorov(scale * distance))


def population_stability_index(
    reference: np.ndarray, new: np.ndarray, bins: int = 10
) -> float:
    r"""Population stability index of one feature: how far a histogram has moved.

    .. math:: \mathrm{PSI} = \sum_{k=1}^{K} (q_k - p_k)\,\log\frac{q_k}{p_k}

    Eq. (35.4).  The bins hold equal shares of the reference; 0.5 is added to each
    count, so that an empty bin does not give infinity.  Where nothing has changed the
    index is about ``(bins - 1) * (1 / n + 1 / m)`` and **not** 0: compare it with
    :func:`psi_threshold`, not with a constant.

    Args:
        reference: Values ``(m,)``, ``m`` at least ``bins``.
        new: Values ``(n,)`` of the new batch.
        bins: How many bins ``K``, at least 2.

    Returns:
        A number, at least 0.

    Raises:
        TypeError: If ``bins`` is not a whole number.
        ValueError: If ``bins`` is below 2 or above the size of the reference.

    Reference:
        Yurdakul and Naranjo (2020), Statistical properties of the population stability
        index.  Our ``p`` and ``q`` are shares of the reference and of the new batch.
    """
    reference = check_array(reference, "reference", ndim=1).astype("float64")
    new = check_array(new, "new", ndim=1).astype("float64")
    if check_whole(bins, "bins", 2) > len(reference):
        raise ValueError(
            f"`bins` must be at most the {len(reference)} values of the reference. "
            f"Received: {bins}. Use fewer bins."
        )
    inner = np.quantile(reference, np.arange(1, bins) / bins)
    p, q = (_smooth_shares(v, inner) for v in (reference, new))
    return float(((q - p) * np.log(q / p)).sum())


def _smooth_shares(values: np.ndarray, inner: np.ndarray) -> np.ndarray:
    bins = len(inner) + 1
    counts = np.bincount(np.searchsorted(inner, values, side="right"), minlength=bins)
    return (counts + _PSEUDO) / (len(values) + _PSEUDO * bins)


def psi_threshold(n: int, m: int, bins: int = 10, alpha: float = 0.05) -> float:
    r"""Return the stability index that chance exceeds with probability ``alpha``.

    .. math:: \Bigl(\frac1n+\frac1m\Bigr)\,\chi^2_{K-1}(1-\alpha)

    Eq. (35.6).  It needs a handful of values in each bin.

    Args:
        n: Size of the new batch.
        m: Size of the reference.
        bins: How many bins ``K``, at least 2.
        alpha: Rate of false alarms, in (0, 1).

    Returns:
        The threshold.

    Raises:
        TypeError: If a count is not a whole number.
        ValueError: If an argument leaves its range.
    """
    rate = 1 / check_whole(n, "n") + 1 / check_whole(m, "m")
    return float(rate * chi2.isf(_alpha(alpha), check_whole(bins, "bins", 2) - 1))


def _alpha(alpha: float) -> float:
    if check_positive(alpha, "alpha") >= 1:
        raise ValueError(
            f"`alpha` must lie in (0, 1). Received: {alpha}. Pass 0.05 for 5 %."
        )
    return alpha


def mmd_test(
    a: np.ndarray,
    b: np.ndarray,
    *,
    permutations: int = 199,
    bandwidth: float | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    r"""Kernel two-sample test: unbiased squared MMD with a p-value by permutations.

    .. math:: \widehat{\mathrm{MMD}}^2 = \frac{\sum_{i\ne j}k(a_i,a_j)}{n(n-1)}
        + \frac{\sum_{i\ne j}k(b_i,b_j)}{m(m-1)}
        - \frac{2\sum_{i,j}k(a_i,b_j)}{nm}

    with :math:`k(x,y)=\exp(-\lVert x-y\rVert^2/2h^2)`, eq. (35.7).  The p-value is
    :math:`(1+\#\{\text{permuted}\ge\text{observed}\})/(1+B)`, eq. (35.8): it is exact,
    for every size, where the rows are exchangeable.

    Args:
        a: Features ``(n, d)`` of the reference, ``n`` at least 2.
        b: Features ``(m, d)`` of the new batch, ``m`` at least 2.
        permutations: How many reshuffles ``B``; 19 are the fewest that can reach 0.05.
        bandwidth: ``h``, above 0; by default the median distance of all rows.
        seed: Seed of the reshuffles.

    Returns:
        ``(mmd_squared, p_value)``; the first may be negative.

    Raises:
        TypeError: If ``permutations`` is not a whole number.
        ValueError: If a set has fewer than two rows, the widths differ, or all rows
            are equal.

    Reference:
        Gretton et al. (2012), A kernel two-sample test, lemma 6.
    """
    a = check_array(a, "a", ndim=2).astype("float64")
    b = check_array(b, "b", shape=(None, a.shape[1])).astype("float64")
    if min(len(a), len(b)) < 2:
        raise ValueError(
            "`a` and `b` must have at least 2 rows each. Received: "
            f"{len(a)} and {len(b)}. Wait for a larger batch."
        )
    kernel = _kernel(np.concatenate([a, b]), bandwidth)
    rng = np.random.default_rng(seed)
    size = len(a) + len(b)
    first = np.zeros((check_whole(permutations, "permutations") + 1, size))
    first[0, : len(a)] = 1.0  # row 0 is the split as it came
    for row in first[1:]:
        row[rng.permutation(size)[: len(a)]] = 1.0
    values = _mmd_of_splits(kernel, first, len(a), len(b))
    at_least = (values[1:] >= values[0] - 1e-12).sum()
    return float(values[0]), float((1 + at_least) / len(values))


def _kernel(x: np.ndarray, bandwidth: float | None) -> np.ndarray:
    """Gaussian kernel of all pairs, with zeros on the diagonal."""
    squares = (x**2).sum(axis=1)
    squares = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0)
    if bandwidth is None:
        bandwidth = np.median(np.sqrt(squares[np.triu_indices(len(x), 1)]))
        if bandwidth == 0:
            raise ValueError(
                "`bandwidth` cannot be the median distance, which is 0. Received: "
                "rows most of which are equal. Pass a `bandwidth`."
            )
    kernel = np.exp(-squares / (2 * check_positive(bandwidth, "bandwidth") ** 2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _mmd_of_splits(kernel: np.ndarray, first: np.ndarray, n: int, m: int) -> np.ndarray:
    """The statistic for each row of ``first``: 1 where a row belongs to ``a``."""
    aa = ((first @ kernel) * first).sum(axis=1)
    ab = first @ kernel.sum(axis=1) - aa
    bb = kernel.sum() - aa - 2 * ab
    return aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m)


def bonferroni(p_values: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    r"""Say which of ``K`` tests raise an alarm at :math:`p_k\le\alpha/K`.

    No more than a share ``alpha`` of quiet weeks has any alarm, however the tests
    depend on each other.

    Args:
        p_values: One p-value a feature, ``(K,)``, in [0, 1].
        alpha: Rate of false alarms of the whole family, in (0, 1).

    Returns:
        True or False for each, ``(K,)``.

    Raises:
        ValueError: If a p-value or ``alpha`` leaves its range.
    """
    p_values = check_array(p_values, "p_values", ndim=1, low=0.0, high=1.0)
    return p_values <= _alpha(alpha) / len(p_values)


def benjamini_hochberg(p_values: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    r"""Say which of ``K`` tests raise an alarm, a share ``alpha`` of them falsely.

    With the p-values in rising order, the ``k`` smallest are alarms, where ``k`` is
    the largest with :math:`p_{(k)}\le\alpha k/K`, eq. (35.10).  On average at most a
    share ``alpha`` of the alarms is false, if the tests are independent or positively
    dependent.

    Args:
        p_values: One p-value a feature, ``(K,)``, in [0, 1].
        alpha: False discovery rate, in (0, 1).

    Returns:
        True or False for each, ``(K,)``.

    Raises:
        ValueError: If a p-value or ``alpha`` leaves its range.

    Reference:
        Benjamini and Hochberg (1995), Controlling the false discovery rate.
    """
    p_values = check_array(p_values, "p_values", ndim=1, low=0.0, high=1.0)
    steps = _alpha(alpha) * np.arange(1, len(p_values) + 1) / len(p_values)
    passing = np.flatnonzero(np.sort(p_values) <= steps)
    limit = np.sort(p_values)[passing[-1]] if len(passing) else -1.0
    return p_values <= limit


class Cusum:
    r"""Two-sided cumulative sum chart: small shifts add up until they are seen.

    .. math:: S^+_t = \max(0, S^+_{t-1} + z_t - k), \qquad
        S^-_t = \max(0, S^-_{t-1} - z_t - k)

    Eq. (35.11); an alarm when one of them exceeds ``h``.  Feed it with standardised
    numbers: mean 0 and standard deviation 1 as long as nothing has changed.

    Args:
        k: Slack in standard deviations, above 0: half the shift to be found.
        h: Limit, above 0; :func:`cusum_run_length` says how often it cries wolf.

    Attributes:
        up: The sum that finds a rise.
        down: The sum that finds a fall.

    Raises:
        ValueError: If ``k`` or ``h`` is not above 0.

    Reference:
        Page (1954), Continuous inspection schemes.
    """

    def __init__(self, k: float = 0.5, h: float = 5.0) -> None:
        self.k, self.h = check_positive(k, "k"), check_positive(h, "h")
        self.reset()

    def reset(self) -> None:
        """Begin again, as after an alarm that was looked into."""
        self.up = self.down = 0.0

    def update(self, z: float) -> bool:
        """Take the next value; say whether the chart is above its limit.

        Args:
            z: The standardised value.

        Raises:
            ValueError: If ``z`` is not finite.
        """
        z = float(check_array(z, "z", ndim=0))
        self.up = max(0.0, self.up + z - self.k)
        self.down = max(0.0, self.down - z - self.k)
        return max(self.up, self.down) > self.h


def cusum_run_length(shift: float = 0.0, k: float = 0.5, h: float = 5.0) -> float:
    r"""Mean number of values until a :class:`Cusum` raises its alarm, nearly.

    .. math:: L(\delta) = \frac{e^{-2\Delta b} + 2\Delta b - 1}{2\Delta^2},
        \qquad \Delta=\delta-k,\quad b = h + 1.166

    Eq. (35.12), for one side and normal values; both sides together run for
    :math:`1/(1/L(\delta)+1/L(-\delta))`.

    Args:
        shift: Change of the mean in standard deviations; 0 for false alarms.
        k: As in :class:`Cusum`.
        h: As in :class:`Cusum`.

    Returns:
        A mean number of values, from the start of the chart.

    Raises:
        ValueError: If ``k`` or ``h`` is not above 0, or ``shift`` is not finite.

    Reference:
        Siegmund (1985), Sequential Analysis.
    """
    shift = float(check_array(shift, "shift", ndim=0))
    check_positive(k, "k"), check_positive(h, "h")
    up, down = _one_side(shift - k, h), _one_side(-shift - k, h)
    return min(up, down) if math.inf in (up, down) else up * down / (up + down)


def _one_side(drift: float, h: float) -> float:
    b = h + 1.166
    if abs(drift) < 1e-6:
        return b**2
    if -2 * drift * b > 700:  # e to this is beyond float64
        return math.inf
    return (math.exp(-2 * drift * b) + 2 * drift * b - 1) / (2 * drift**2)


def always_valid_p(x: np.ndarray, sigma: float = 1.0, tau: float = 1.0) -> np.ndarray:
    r"""P-values that one may look at after each observation, and stop at any.

    .. math:: \Lambda_n = \sqrt{\frac{\sigma^2}{\sigma^2+n\tau^2}}
        \exp\frac{\tau^2 (\sum_{i\le n} x_i)^2}{2\sigma^2(\sigma^2+n\tau^2)},
        \qquad p_n = \min\Bigl(1, \min_{i\le n} \frac1{\Lambda_i}\Bigr)

    Eq. (35.16): the likelihood ratio of "the mean is a draw from N(0, tau²)" against
    "the mean is 0", for normal values.  Where the mean is 0 the chance that ``p`` ever
    falls to ``alpha`` is at most ``alpha``.

    Args:
        x: Differences between the two arms, in order, ``(n,)`` or ``(..., n)``.
        sigma: Their standard deviation, above 0, known.
        tau: Size of the differences one expects, above 0.

    Returns:
        A p-value after each observation, same shape, never rising.

    Raises:
        ValueError: If ``sigma`` or ``tau`` is not above 0, or ``x`` is not finite.

    Reference:
        Robbins (1970), Statistical methods related to the law of the iterated
        logarithm; Johari, Pekelis and Walsh (2015), Always valid inference.
    """
    x = check_array(x, "x").astype("float64")
    check_positive(sigma, "sigma"), check_positive(tau, "tau")
    n = np.arange(1, x.shape[-1] + 1)
    total = sigma**2 + n * tau**2
    exponent = tau**2 * x.cumsum(axis=-1) ** 2 / (2 * sigma**2 * total)
    log_ratio = 0.5 * np.log(sigma**2 / total) + exponent
    return np.exp(-np.maximum.accumulate(np.maximum(log_ratio, 0.0), axis=-1))
