"""From logits to tokens: NumPy functions that know no model.

A *choice* is a callable ``choose(logits, rng)``: logits ``(B, V)`` and a NumPy random
generator in, one id for each row out, ``(B,)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive

__all__ = [
    "WithTokens",
    "beam_search",
    "greedy",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "log_softmax",
    "only",
    "pick",
    "probabilities",
    "repetition_penalty",
    "sample",
    "speculative",
]

Choice = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    r"""Return log-probabilities, :math:`a_i - \log\sum_j e^{a_j}`.

    Args:
        logits: Shape ``(..., V)``; minus infinity stands for probability 0, but not
            for a whole row.

    Returns:
        float64, same shape, in nats.
    """
    logits = np.asarray(logits, "float64")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of logits.

    Args:
        logits: Shape ``(..., V)``.

    Returns:
        float64, same shape; rows sum to 1.
    """
    return np.exp(log_softmax(logits))


def keep_top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Keep the ``k`` largest logits of each row.

    Args:
        logits: Shape ``(B, V)``.
        k: How many, at least 1; of equal logits the smaller ids stay.

    Returns:
        Same shape, minus infinity for the others.

    Reference:
        Fan, Lewis and Dauphin (2018).
    """
    check_positive(k, "k")
    order = np.argsort(-logits, axis=-1, kind="stable")[:, : int(k)]
    return _keep(logits, order, np.ones(order.shape, bool))


def keep_top_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keep the fewest tokens, likeliest first, whose probabilities reach ``p``.

    Args:
        logits: Shape ``(B, V)``.
        p: In (0, 1]; 1 keeps all.  The likeliest token always stays.

    Returns:
        Same shape, minus infinity for the others.

    Reference:
        Holtzman et al. (2020), nucleus sampling.
    """
    _check_share(p, "p")
    order = np.argsort(-logits, axis=-1, kind="stable")
    sorted_p = np.take_along_axis(probabilities(logits), order, axis=-1)
    before = np.cumsum(sorted_p, axis=-1) - sorted_p  # mass of the likelier ones
    return _keep(logits, order, (before < p) | (p == 1))


def keep_min_p(logits: np.ndarray, p: float) -> np.ndarray:
    """Keep tokens at least ``p`` times as likely as the likeliest.

    Args:
        logits: Shape ``(B, V)``.
        p: In (0, 1]; 1 keeps the likeliest alone.

    Returns:
        Same shape, minus infinity for the others.

    Reference:
        Nguyen et al. (2024).
    """
    _check_share(p, "p")
    likeliest = logits.max(axis=-1, keepdims=True)
    return np.where(logits >= likeliest + np.log(p), logits, -np.inf)


def repetition_penalty(
    logits: np.ndarray, seen: np.ndarray, penalty: float
) -> np.ndarray:
    """Make tokens that were seen less likely.

    Positive logits of seen tokens are divided by the penalty, negative ones multiplied.

    Args:
        logits: Shape ``(B, V)``.
        seen: The ids of each row's text so far, shape ``(B, T)``.
        penalty: At least 1; 1 changes nothing.

    Returns:
        Same shape.

    Raises:
        ValueError: If the penalty is below 1.

    Reference:
        Keskar et al. (2019), section 4.1.
    """
    if penalty < 1:
        raise ValueError(
            f"`penalty` must be at least 1. Received: {penalty!r}. Common is 1.2."
        )
    found = np.zeros(logits.shape, bool)
    np.put_along_axis(found, np.asarray(seen, int), True, axis=-1)
    lower = np.where(logits > 0, logits / penalty, logits * penalty)
    return np.where(found, lower, logits)


def _keep(logits: np.ndarray, order: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Minus infinity but where ``kept`` says so, at the ids in ``order``."""
    mask = np.zeros(logits.shape, bool)
    np.put_along_axis(mask, order, kept, axis=-1)
    return np.where(mask, logits, -np.inf)


def _check_share(p: float, name: str) -> None:
    if not 0 < p <= 1:
        raise ValueError(
            f"`{name}` must be above 0 and at most 1. Received: {p!r}. It is a share "
            "of the probability, such as 0.9."
        )


def greedy() -> Choice:
    """Return the choice of the likeliest token; of equal ones, the smallest id."""
    return lambda logits, rng: np.argmax(logits, axis=-1)


def sample(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Choice:
    """Return the choice that draws a token from what the filters leave over.

    Args:
        temperature: Logits are divided by it first; below 1 sharpens, above 1 flattens.
        top_k: See :func:`keep_top_k`.
        top_p: See :func:`keep_top_p`, applied to what ``top_k`` left.
        min_p: See :func:`keep_min_p`, applied last.

    Returns:
        ``choose(logits, rng) -> ids``.

    Raises:
        ValueError: If an argument is out of its range.
    """
    check_positive(temperature, "temperature")
    filters = ((keep_top_k, top_k), (keep_top_p, top_p), (keep_min_p, min_p))
    chosen = [(keep, value) for keep, value in filters if value is not None]
    for keep, value in chosen:  # refuse bad values now, not at the first token
        keep(np.zeros((1, 1)), value)

    def choose(logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        logits = np.asarray(logits, "float64") / temperature
        for keep, value in chosen:
            logits = keep(logits, value)
        return _draw(probabilities(logits), rng)

    return choose


def _draw(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one id for each row of ``p``, shape (B, V)."""
    steps = np.cumsum(p, axis=-1)
    u = rng.random((len(p), 1)) * steps[:, -1:]
    return (steps <= u).sum(axis=-1)


class WithTokens:
    """A choice that also reads the text so far: ``fn(logits, rng, tokens)``.

    Args:
        fn: Takes logits ``(B, V)``, a random generator and the tokens of each row so
            far, prompt included, ``(B, T)``; returns ids ``(B,)``.
    """

    def __init__(self, fn: Callable[..., np.ndarray]) -> None:
        self.fn = fn

    def __call__(
        self, logits: np.ndarray, rng: np.random.Generator, tokens: np.ndarray
    ) -> np.ndarray:
        """Return ids ``(B,)``."""
        return self.fn(logits, rng, tokens)


def pick(
    choose: Choice | WithTokens,
    logits: np.ndarray,
    rng: np.random.Generator,
    tokens: np.ndarray,
) -> np.ndarray:
    """Let a choice choose; one that reads the text gets the text.

    Args:
        choose: The choice.
        logits: Shape ``(B, V)``.
        rng: Where its random numbers come from.
        tokens: The text so far, ``(B, T)``.

    Returns:
        Ids, int32, shape ``(B,)``.
    """
    more = (tokens,) if isinstance(choose, WithTokens) else ()
    return np.asarray(choose(logits, rng, *more), "int32")


def only(
    allowed_fn: Callable[[np.ndarray], Iterable[int]], choose: Choice | None = None
) -> WithTokens:
    """Return a choice among the tokens that are allowed after the text so far.

    Args:
        allowed_fn: Maps the tokens of one row so far, prompt included, ``(T,)``, to the
            ids that may come next, at least one.
        choose: Chooses among them; ``None`` for :func:`sample`.

    Returns:
        The choice; it raises a ``ValueError`` where nothing is allowed.
    """
    inner = choose or sample()

    def among(
        logits: np.ndarray, rng: np.random.Generator, tokens: np.ndarray
    ) -> np.ndarray:
        masked = np.full(logits.shape, -np.inf)
        for row, text in enumerate(tokens):
            ids = list(allowed_fn(text))
            if not ids:
                raise ValueError(
                    "`allowed_fn` must allow at least one token. Received: none after "
                    f"{text.tolist()}. Allow a token that ends the text."
                )
            masked[row, ids] = logits[row, ids]
        return pick(inner, masked, rng, tokens)

    return WithTokens(among)


def beam_search(
    log_probs_fn: Callable[[np.ndarray], np.ndarray],
    prompt: np.ndarray,
    width: int,
    length: int,
    stop: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search for the likeliest continuation, keeping the ``width`` best at each step.

    Args:
        log_probs_fn: Maps tokens ``(n, T)`` to log-probabilities of the next one,
            ``(n, V)``.
        prompt: Ids, shape ``(T0,)``.
        width: Texts that are kept, at least 1; 1 is greedy decoding.
        length: Tokens to add, at least 1.
        stop: An id that ends a text; what follows it is the same id, for free.

    Returns:
        ``(tokens, scores)``, best first: ``(width, T0 + length)`` and the sums of the
        log-probabilities of the added tokens, ``(width,)``; fewer rows where the
        vocabulary does not give as many.
    """
    for value, name in ((width, "width"), (length, "length")):
        check_positive(value, name)
    tokens = check_array(prompt, "prompt", ndim=1).astype("int32")[None]
    scores = np.zeros(1)
    for _ in range(length):
        log_p = np.array(log_probs_fn(tokens), "float64")  # (n, V)
        if stop is not None:
            over = (tokens[:, len(prompt) :] == stop).any(axis=1)
            log_p[over] = -np.inf
            log_p[over, stop] = 0.0
        totals = (scores[:, None] + log_p).ravel()
        best = np.argsort(-totals, kind="stable")[:width]
        best = best[np.isfinite(totals[best])]
        row, ids = np.divmod(best, log_p.shape[1])
        tokens = np.concatenate([tokens[row], ids[:, None].astype("int32")], axis=1)
        scores = totals[best]
    return tokens, scores


def speculative(
    draft_fn: Callable[[np.ndarray], np.ndarray],
    target_fn: Callable[[np.ndarray], np.ndarray],
    prompt: np.ndarray,
    length: int,
    ahead: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, int]]:
    r"""Sample from the target while a smaller model writes ahead.

    The draft proposes ``ahead`` tokens from its distribution :math:`q`; the target
    judges all of them in one call.  A proposal stays with probability
    :math:`\min(1, p/q)`; the first that does not is replaced by a draw from
    :math:`\max(p-q, 0)`, normalised.  Where all stay, the target adds one more.  The
    text is distributed exactly as the target's.

    Args:
        draft_fn: Maps tokens ``(T,)`` to logits of the next after each, ``(T, V)``.
        target_fn: The same of the model that is to be sampled.
        prompt: Ids, shape ``(T0,)``, at least one.
        length: Tokens to add, at least 1.
        ahead: Tokens that are proposed at a time, at least 1.
        rng: Where random numbers come from.

    Returns:
        ``(tokens, counts)``: ids ``(T0 + length,)``, and a dictionary of how many
        tokens were ``"proposed"`` and ``"accepted"``, in how many ``"calls"`` of the
        target.

    Reference:
        Leviathan, Kalman and Matias (2023), algorithm 1.
    """
    for value, name in ((length, "length"), (ahead, "ahead")):
        check_positive(value, name)
    tokens = check_array(prompt, "prompt", ndim=1).astype("int32")
    end = len(tokens) + length
    counts = {"proposed": 0, "accepted": 0, "calls": 0}
    while len(tokens) < end:
        written, q = _write_ahead(draft_fn, tokens, min(ahead, end - len(tokens)), rng)
        p = probabilities(target_fn(written))[len(tokens) - 1 :]  # (ahead + 1, V)
        stay = _accepted(written[len(tokens) :], p, q, rng)
        counts["proposed"] += len(q)
        counts["accepted"] += stay
        counts["calls"] += 1
        rest = np.maximum(p[stay] - q[stay], 0) if stay < len(q) else p[stay]
        extra = _draw((rest / rest.sum())[None], rng)
        kept = written[: len(tokens) + stay]
        tokens = np.concatenate([kept, extra.astype("int32")])
    return tokens[:end], counts


def _write_ahead(
    draft_fn: Any, tokens: np.ndarray, ahead: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens with the draft's proposals, and its distributions ``(ahead, V)``."""
    q = []
    for _ in range(ahead):
        q.append(probabilities(draft_fn(tokens)[-1]))
        tokens = np.concatenate([tokens, _draw(q[-1][None], rng).astype("int32")])
    return tokens, np.array(q)


def _accepted(
    proposed: np.ndarray, p: np.ndarray, q: np.ndarray, rng: np.random.Generator
) -> int:
    """How many proposals stay, up to the first that does not."""
    rows = np.arange(len(q))
    stays = rng.random(len(q)) * q[rows, proposed] < p[rows, proposed]
    return len(q) if stays.all() else int(np.argmin(stays))
