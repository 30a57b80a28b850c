"""A GPT: one player that predicts the next token from those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from genai_utils import decoding, losses
from genai_utils.checks import check_array, check_choice, check_positive
from genai_utils.game import Field, Game, Player
from genai_utils.layers import POSITIONS, Block, sinusoids

__all__ = ["GPT", "Cache", "make_gpt"]

_MOST = 2**22  # logits that are computed at once when a likelihood is asked for
_STD = 0.2  # of embeddings at the start: as large as what a block adds to them
_ROOM = 256  # tokens for which a cache has room at first; then four times as many
_SHRINK = 0.1  # of the last norm at the start, so that all tokens are as likely


class Cache(NamedTuple):
    """Keys and values of the tokens so far, as tensors of the backend.

    Args:
        keys: Shape ``(depth, B, heads, S, head_dim)``, with room for ``S`` tokens.
        values: Same shape.
        length: How many tokens are in it.
    """

    keys: Any
    values: Any
    length: int


@keras.saving.register_keras_serializable("genai_utils")
class GPT(Game):
    r"""A decoder-only Transformer, trained by maximum likelihood.

    .. math:: \log p(x) = \sum_t \log p(x_{t+1} \mid x_1, \dots, x_t)

    ``fit(tokens)`` wants whole numbers ``(n, T + 1)``, ``T`` at most ``context``: the
    last ``T`` of a row are predicted, each from those before it.  ``fit(tokens, mask)``
    takes weights ``(n, T + 1)`` in [0, 1]; only tokens with a weight count.

    Args:
        vocab_size: Number ``V`` of tokens.
        context: Most tokens that are looked at.
        width: Features of a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Heads of attention in each block.
        positions: ``"learned"``, ``"rotary"``, ``"sinusoidal"`` or ``"none"``.
        tie: Whether the logits use the embeddings of the tokens.
        dropout: Share of the embeddings and of each branch's outputs that are set to
            zero in training.
        seed: Seed of weights and dropout.
        **kwargs: Passed to ``keras.Model``.

    Reference:
        Radford et al. (2019), of which this is a small one; Press and Wolf (2017) for
        tied embeddings.
    """

    #: What a mask of weights must look like.
    mask = Field("float32", 0.0, 1.0)

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        *,
        positions: str = "learned",
        tie: bool = True,
        dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        settings = {
            "vocab_size": vocab_size,
            "context": context,
            "width": width,
            "depth": depth,
            "heads": heads,
        }
        for name, value in settings.items():
            check_positive(value, name)
        check_choice(positions, "positions", POSITIONS)
        settings |= {"positions": positions, "tie": tie, "dropout": dropout}
        self.settings = {**settings, "seed": seed}
        self.vocab_size, self.context = vocab_size, context
        self.data = Field("int32", 0, vocab_size - 1)
        self.network = _Network(**self.settings)
        self.built = True
        self._runs = _Runs(self.network, self.compiled_function)

    @property
    def blocks(self) -> list[Block]:
        """The blocks, first to last."""
        return self.network.blocks

    def players(self) -> list[Player]:
        """Return the one player."""
        return [Player("gpt", [self.network], self._loss)]

    def _loss(self, tokens: Any, *more: Any) -> Any:
        *masks, training = more
        logits = self.network(tokens[:, :-1], training=training)  # (B, T, V)
        nll = losses.next_token_nll(tokens, logits)  # (B, T)
        return losses.weighted_mean(nll, *(mask[:, 1:] for mask in masks))

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Train with ``Game.fit``.

        Args:
            x: Tokens ``(n, T + 1)``, or a data set of them.
            y: Weights of the tokens, ``(n, T + 1)``; ``None`` where all count.
            **kwargs: Those of ``Game.fit``.

        Returns:
            Keras' history.
        """
        self.condition = None if y is None else self.mask
        return super().fit(x, y, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Evaluate the loss with ``Game.evaluate``; arguments as in :meth:`fit`."""
        if not kwargs.get("_use_cached_eval_dataset"):  # Keras, within `fit`
            self.condition = None if y is None else self.mask
        return super().evaluate(x, y, **kwargs)

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Return the logits of the token after each token.

        Args:
            tokens: Whole numbers, shape ``(B, T)``, ``T`` at most ``context``.
            training: Whether to drop outputs.

        Returns:
            Logits, shape ``(B, T, V)``.
        """
        return self.network(tokens, training=training)

    def token_log_likelihood(self, tokens: np.ndarray) -> np.ndarray:
        """Return the log-probability of each token given those before it.

        Args:
            tokens: Shape ``(B, T + 1)``.

        Returns:
            Nats, shape ``(B, T)``: entry ``[b, t]`` belongs to token ``t + 1``.
        """
        tokens = self._checked(tokens, "tokens", self.context + 1)
        at_once = max(1, _MOST // (tokens.shape[1] * self.vocab_size))
        parts = []
        for start in range(0, len(tokens), at_once):
            rows = tokens[start : start + at_once]
            log_p = decoding.log_softmax(self._runs.logits(rows[:, :-1]))
            parts.append(np.take_along_axis(log_p, rows[:, 1:, None], 2)[..., 0])
        return np.concatenate(parts)

    def log_likelihood(
        self, tokens: np.ndarray, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the log-likelihood of each row, given its first token.

        Args:
            tokens: Shape ``(B, T + 1)``.
            mask: Weights of the tokens, same shape; ``None`` where all count.

        Returns:
            Nats, shape ``(B,)``.
        """
        log_p = self.token_log_likelihood(tokens)
        if mask is None:
            return log_p.sum(axis=1)
        mask = check_array(mask, "mask", shape=np.shape(tokens), low=0, high=1)
        return (log_p * mask[:, 1:]).sum(axis=1)

    def attention_maps(self, tokens: np.ndarray) -> np.ndarray:
        """Return who looks at whom, shape ``(depth, B, heads, T, T)``; rows sum to 1.

        Args:
            tokens: Shape ``(B, T)``.
        """
        tokens = self._checked(tokens, "tokens", self.context)
        maps = self.network.maps(ops.convert_to_tensor(tokens))
        return np.stack([ops.convert_to_numpy(m) for m in maps])

    def start_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for ``batch_size`` texts."""
        check_positive(batch_size, "batch_size")
        s = self.settings
        shape = (s["depth"], batch_size, s["heads"], min(_ROOM, s["context"]))
        shape += (s["width"] // s["heads"],)
        empty = ops.zeros(shape, self.network.compute_dtype)
        return Cache(empty, empty, 0)

    def step(self, tokens: np.ndarray, cache: Cache) -> tuple[np.ndarray, Cache]:
        """Read the next tokens of each text; only these are computed.

        Args:
            tokens: One or more tokens for each text, shape ``(B, T)``.
            cache: From :meth:`start_cache` or an earlier step; it is not changed.

        Returns:
            ``(logits, cache)``: the logits of the token that comes next, ``(B, V)``,
            and the cache with the tokens in it.

        Raises:
            ValueError: If the cache has no room for them.
        """
        room = self.context - cache.length
        if np.shape(tokens)[-1] > room:
            raise ValueError(
                f"`cache` must have room for the tokens. Received: {cache.length} of "
                f"{self.context} in use, {np.shape(tokens)[-1]} more to come. Start a "
                "new cache with the last tokens of the text."
            )
        tokens = self._checked(tokens, "tokens", room)
        return self._runs.step(tokens, cache, room)

    def stream(
        self,
        prompt: np.ndarray,
        length: int,
        choose: Callable | None = None,
        *,
        seed: int = 0,
        cache: bool = True,
        stop: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield the next tokens ``(B,)`` as soon as they are chosen.

        Args:
            prompt: The texts to go on with, ids of shape ``(B, T0)``.
            length: Most tokens to add.
            choose: A choice of ``genai_utils.decoding``; ``None`` to sample.
            seed: Seed of the choices.
            cache: Whether to keep keys and values.  The tokens are the same without,
                and where the text outgrows the context it is done without.
            stop: An id that ends a text; what follows it is the same id.  When all
                texts have ended, nothing more comes.
        """
        tokens = self._checked(prompt, "prompt", None)
        choose, rng = choose or decoding.sample(), np.random.default_rng(seed)
        kept = self.start_cache(len(tokens)) if cache else None
        over = np.zeros(len(tokens), bool)
        for _ in range(length):
            logits, kept = self._next(tokens, kept)
            new = decoding.pick(choose, logits, rng, tokens)
            if stop is not None:
                new = np.where(over, stop, new).astype("int32")
                over |= new == stop
            yield new
            tokens = np.concatenate([tokens, new[:, None]], axis=1)
            if over.all():
                return

    def _next(self, tokens: np.ndarray, cache: Cache | None) -> tuple:
        """Logits of the next token, and the cache, if it still helps."""
        if cache is not None and tokens.shape[1] <= self.context:
            return self.step(tokens[:, cache.length :], cache)
        return self._runs.logits(tokens[:, -self.context :])[:, -1], None

    def generate(
        self,
        prompt: np.ndarray,
        length: int,
        choose: Callable | None = None,
        *,
        seed: int = 0,
        cache: bool = True,
        stop: int | None = None,
    ) -> np.ndarray:
        """Go on with texts by ``length`` tokens.

        Args:
            prompt: Ids, shape ``(B, T0)``.
            length: Tokens to add.
            choose: As in :meth:`stream`, and so on.
            seed: Seed of the choices.
            cache: Whether to keep keys and values.
            stop: An id that ends a text.

        Returns:
            Ids, int32, shape ``(B, T0 + length)``, filled up with ``stop``.
        """
        check_positive(length, "length")
        stream = self.stream(prompt, length, choose, seed=seed, cache=cache, stop=stop)
        new = np.stack(list(stream), axis=1)  # (B, up to length)
        missing = length - new.shape[1]
        filled = np.pad(new, ((0, 0), (0, missing)), constant_values=stop or 0)
        return np.concatenate([np.asarray(prompt, "int32"), filled], axis=1)

    def _checked(self, tokens: Any, name: str, most: int | None) -> np.ndarray:
        """Return ids (B, T) as int32, T at most ``most``."""
        tokens = self.data.check(check_array(tokens, name, ndim=2), name)
        if most is not None and tokens.shape[1] > most:
            raise ValueError(
                f"`{name}` must have at most {most} columns. Received: shape "
                f"{tokens.shape}. Cut the texts, or make a model with more `context`."
            )
        return tokens

    def _settings(self) -> dict:
        return dict(self.settings)


class _Network(keras.Model):
    """Embeddings, blocks, a last norm and the logits."""

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        positions: str,
        tie: bool,
        dropout: float,
        seed: int,
    ) -> None:
        super().__init__(name="network")
        self.context = context
        self.embedding = _table(vocab_size, width, seed + 1)
        self.places = (
            _table(context, width, seed + 2) if positions == "learned" else None
        )
        self.waves = positions == "sinusoidal"
        self.dropout = layers.Dropout(dropout, seed=seed + 3)
        self.blocks = [
            Block(
                width,
                heads,
                positions=positions,
                dropout=dropout,
                shrink=(2 * depth) ** -0.5,
                seed=seed + 10 * (i + 1),
            )
            for i in range(depth)
        ]
        small = keras.initializers.Constant(_SHRINK)
        self.norm = layers.LayerNormalization(epsilon=1e-5, gamma_initializer=small)
        self.norm.build((None, None, width))
        self.head = None if tie else _table(vocab_size, width, seed + 4)
        self.built = True

    def call(self, tokens: Any, training: bool = False) -> Any:
        """Logits (B, T, V) for tokens (B, T)."""
        x = self.embed(tokens, 0, training)
        for block in self.blocks:
            x = block(x, training=training)
        return self.logits(x)

    def maps(self, tokens: Any) -> list:
        """Attention weights of each block, (B, heads, T, T)."""
        x, found = self.embed(tokens), []
        for block in self.blocks:
            x, weights = block(x, return_weights=True)
            found.append(weights)
        return found

    def step(self, tokens: Any, keys: Any, values: Any, past: Any) -> tuple:
        """States (B, T, width) of new tokens, and keys and values with theirs."""
        x, caches = self.embed(tokens, past), []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, cache=(keys[i], values[i]), past=past)
            caches.append(cache)
        return x, *(ops.stack(part) for part in zip(*caches, strict=True))

    def embed(self, tokens: Any, past: Any = 0, training: bool = False) -> Any:
        """Features of tokens (B, T), of which the first stands at ``past``."""
        length = tokens.shape[1]
        if length is not None and length > self.context:
            raise ValueError(
                f"`tokens` must be at most {self.context} long, the model's context. "
                f"Received: {length}. Cut the texts, or make a model with more "
                "`context`; `fit` takes one more, the last token to be predicted."
            )
        x = self.embedding(tokens)  # (B, T, width)
        at = past + ops.arange(ops.shape(tokens)[1])
        if self.places is not None:
            x = x + self.places(at)
        if self.waves:  # as large as the embeddings are at the start
            table = sinusoids(self.context, x.shape[-1]) * (_STD * 2**0.5)
            x = x + ops.cast(ops.take(table, at, axis=0), x.dtype)
        return self.dropout(x, training=training)

    def logits(self, x: Any) -> Any:
        """Logits (..., V) of the tokens after states (..., width)."""
        table = self.embedding if self.head is None else self.head
        weights = ops.cast(table.embeddings, self.compute_dtype)
        return ops.matmul(self.norm(x), ops.transpose(weights))


class _Runs:
    """Compiled passes of a network; not a Keras object, so that it is not saved.

    Batches and lengths are filled up to powers of two: few shapes, few compilations.
    """

    def __init__(self, network: _Network, compiled: Callable) -> None:
        self.network = network

        def step(tokens: Any, keys: Any, values: Any, past: Any, last: Any) -> tuple:
            x, keys, values = network.step(tokens, keys, values, past)
            return network.logits(ops.take(x, last, axis=1)), keys, values

        self.compiled_step = compiled(step)

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (B, T, V), float32, for tokens (B, T)."""
        rows, length = tokens.shape
        size = min(_power_of_two(length), self.network.context)
        filled = np.zeros((_power_of_two(rows), size), "int32")
        filled[:rows, :length] = tokens
        return self.network.predict_on_batch(filled)[:rows, :length].astype("float32")

    def step(self, tokens: np.ndarray, cache: Cache, room: int) -> tuple:
        """Logits (B, V) after the last token, and the cache with the tokens in it."""
        length = tokens.shape[1]
        size = min(_power_of_two(length), room)
        cache = self._with_room(cache, cache.length + size)
        logits, keys, values = self.compiled_step(
            np.pad(tokens, ((0, 0), (0, size - length))),
            cache.keys,
            cache.values,
            np.int32(cache.length),
            np.int32(length - 1),
        )
        logits = ops.convert_to_numpy(logits).astype("float32")
        return logits, Cache(keys, values, cache.length + length)

    def _with_room(self, cache: Cache, needed: int) -> Cache:
        """The cache with room for ``needed`` tokens; few sizes, few compilations."""
        has = room = cache.keys.shape[3]
        while room < needed:
            room = min(4 * room, self.network.context)
        if room == has:
            return cache
        more = ((0, 0), (0, 0), (0, 0), (0, room - has), (0, 0))
        return Cache(
            ops.pad(cache.keys, more), ops.pad(cache.values, more), cache.length
        )


def _power_of_two(n: int) -> int:
    """The smallest power of two that is at least ``n``."""
    return 1 << (n - 1).bit_length()


def _table(rows: int, width: int, seed: int) -> layers.Embedding:
    """Return a table of vectors that is built."""
    start = keras.initializers.RandomNormal(0.0, _STD, seed=seed)
    table = layers.Embedding(rows, width, embeddings_initializer=start)
    table.build()
    return table


def make_gpt(
    vocab_size: int,
    context: int = 64,
    width: int = 128,
    depth: int = 4,
    heads: int = 4,
    positions: str = "learned",
    tie: bool = True,
    dropout: float = 0.0,
    seed: int = 0,
    **kwargs: Any,
) -> GPT:
    """Make a small GPT.

    Args:
        vocab_size: Number of tokens.
        context: Most tokens that are looked at.
        width: Features of a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Heads of attention in each block.
        positions: ``"learned"``, ``"rotary"``, ``"sinusoidal"`` or ``"none"``.
        tie: Whether the logits use the embeddings of the tokens.
        dropout: As in :class:`GPT`.
        seed: Seed of weights and dropout.
        **kwargs: Passed to ``keras.Model``.

    Returns:
        The model, not compiled.
    """
    return GPT(
        vocab_size,
        context,
        width,
        depth,
        heads,
        positions=positions,
        tie=tie,
        dropout=dropout,
        seed=seed,
        **kwargs,
    )
