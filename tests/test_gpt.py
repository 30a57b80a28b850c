"""The GPT against enumeration, NumPy and its own full pass."""

from __future__ import annotations

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

from genai_utils import decoding
from genai_utils.game import Field
from genai_utils.layers import POSITIONS
from genai_utils.models import gpt as module
from genai_utils.models.gpt import GPT, make_gpt

pytestmark = pytest.mark.engines
SMALL = {"context": 8, "width": 16, "depth": 2, "heads": 2}
X = np.random.default_rng(0).integers(0, 5, (12, 9))


def numpy(x):
    return ops.convert_to_numpy(x)


def lively(vocab=5, seed=0, **kwargs):
    """A model whose weights are far from their start, so that context matters."""
    gpt = make_gpt(vocab, **SMALL | kwargs, seed=seed)
    for i, v in enumerate(gpt.trainable_variables):
        noise = np.random.default_rng(100 * seed + i).normal(0, 0.3, v.shape)
        v.assign(numpy(v) + noise)
    return gpt


def log_softmax(gpt, tokens):
    logits = numpy(gpt(ops.convert_to_tensor(np.asarray(tokens, "int32"))))
    return special.log_softmax(logits.astype("float64"), axis=-1)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("tie", [True, False])
def test_at_the_start_all_tokens_are_as_likely(positions, tie):
    gpt = make_gpt(40, **SMALL, positions=positions, tie=tie)
    x = np.random.default_rng(1).integers(0, 40, (30, 9))
    gpt.compile("adam")
    loss = gpt.evaluate(x, verbose=0)
    assert loss == pytest.approx(math.log(40), abs=0.02)
    assert loss == pytest.approx(-gpt.log_likelihood(x).mean() / 8, rel=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_future_does_not_matter_the_past_does(positions):
    gpt = lively(positions=positions)
    changed = X[:, :8].copy()
    changed[:, 5] = (changed[:, 5] + 1) % 5
    before, after = log_softmax(gpt, X[:, :8]), log_softmax(gpt, changed)
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-5)
    assert (abs(after - before)[:, 5:].max(axis=-1) > 1e-4).all()


def test_without_positions_the_order_of_the_past_is_unknown():
    swapped = X[:, [1, 0, *range(2, 8)]]
    for positions in POSITIONS:
        gpt = lively(positions=positions, depth=1)
        change = log_softmax(gpt, swapped) - log_softmax(gpt, X[:, :8])
        moved = abs(change[:, 2:]).max() > 1e-3
        assert moved == (positions != "none")


def test_probabilities_of_all_texts_sum_to_one():
    gpt = lively(vocab=3)
    texts = np.array([(1, *rest) for rest in itertools.product(range(3), repeat=4)])
    assert np.exp(gpt.log_likelihood(texts)).sum() == pytest.approx(1.0, abs=1e-5)


def test_likelihoods_token_by_token(monkeypatch):
    gpt = lively()
    log_p = log_softmax(gpt, X[:, :-1])
    exact = [[log_p[b, t, X[b, t + 1]] for t in range(8)] for b in range(12)]
    np.testing.assert_allclose(gpt.token_log_likelihood(X), exact, atol=1e-4)
    np.testing.assert_allclose(gpt.log_likelihood(X), np.sum(exact, axis=1), atol=1e-3)
    mask = np.random.default_rng(1).random(X.shape)
    masked = (mask[:, 1:] * exact).sum(axis=1)
    np.testing.assert_allclose(gpt.log_likelihood(X, mask), masked, atol=1e-3)
    monkeypatch.setattr(module, "_MOST", 5 * 9 * 5)  # five rows at once
    np.testing.assert_allclose(gpt.token_log_likelihood(X), exact, atol=1e-4)
    short = gpt.token_log_likelihood(X[:3, :4])
    np.testing.assert_allclose(short, np.array(exact)[:3, :3], atol=1e-4)


def test_only_tokens_with_weight_count_in_the_loss():
    gpt = lively()
    mask = np.zeros(X.shape)
    mask[:, 6:] = 1.0
    mask[0] = 0.0
    gpt.compile("sgd")
    expected = -gpt.log_likelihood(X, mask).sum() / mask.sum()
    assert gpt.evaluate(X, mask, verbose=0) == pytest.approx(expected, rel=1e-4)
    mean = -gpt.log_likelihood(X).mean() / 8
    assert gpt.evaluate(X, verbose=0) == pytest.approx(mean, rel=1e-4)
    history = gpt.fit(X, mask, validation_data=(X, mask), verbose=0).history
    assert history["val_loss"][0] < expected
    gpt.fit(X, verbose=0)  # and back to all tokens


def test_an_answer_can_be_learnt_while_the_question_is_not():
    rng = np.random.default_rng(2)
    x = rng.integers(0, 5, (256, 5))
    x[:, -1] = x[:, 1]  # the answer repeats the second token
    mask = np.zeros(x.shape)
    mask[:, -1] = 1.0
    gpt = make_gpt(5, **SMALL)
    gpt.compile(keras.optimizers.Adam(1e-2))
    before = gpt.token_log_likelihood(x)[:, :-1].mean()
    gpt.fit(x, mask, epochs=20, verbose=0)
    after = gpt.token_log_likelihood(x)
    assert after[:, -1].mean() > -0.05 and before == pytest.approx(-1.61, abs=0.05)
    assert after[:, :-1].mean() < -1.55  # nobody asked for the others
    found = gpt.generate(x[:50, :4], 1, decoding.greedy())
    assert (found == x[:50]).mean() > 0.99


@pytest.mark.parametrize("positions", POSITIONS)
def test_steps_with_a_cache_are_the_full_pass(positions):
    gpt = lively(positions=positions)
    log_p = log_softmax(gpt, X[:, :8])
    first = cache = gpt.start_cache(12)
    at = 0
    for size in (3, 1, 1, 2, 1):  # seven of them are padded, too
        logits, cache = gpt.step(X[:, at : at + size], cache)
        at += size
        found = special.log_softmax(logits, axis=-1)
        np.testing.assert_allclose(found, log_p[:, at - 1], atol=1e-4)
        assert cache.length == at and cache.keys.shape == (2, 12, 2, 8, 8)
    assert first.length == 0 and not numpy(first.keys).any()  # not changed
    with pytest.raises(ValueError, match=r"`cache` must have room.*Received: 8 of 8"):
        gpt.step(X[:, :1], cache)


def test_a_cache_grows_when_it_must(monkeypatch):
    monkeypatch.setattr(module, "_ROOM", 2)
    gpt = lively(positions="rotary")
    cache, rooms = gpt.start_cache(12), []
    for t in range(8):
        logits, cache = gpt.step(X[:, t : t + 1], cache)
        rooms.append(cache.keys.shape[3])
    assert rooms == [2, 2, 8, 8, 8, 8, 8, 8]
    log_p = special.log_softmax(logits, axis=-1)
    np.testing.assert_allclose(log_p, log_softmax(gpt, X[:, :8])[:, -1], atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_cache_has_the_precision_of_the_network(policy):
    keras.config.set_dtype_policy(policy)
    try:
        gpt = lively()
    finally:
        keras.config.set_dtype_policy("float32")
    logits, cache = gpt.step(X[:, :4], gpt.start_cache(12))
    assert keras.backend.standardize_dtype(cache.keys.dtype) == policy[6:]
    assert logits.dtype == "float32"
    full = log_softmax(gpt, X[:, :4])[:, -1]
    atol = 0.02 if policy == "mixed_float16" else 0.15
    np.testing.assert_allclose(special.log_softmax(logits, axis=-1), full, atol=atol)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_generated_texts_are_those_without_a_cache_even_beyond_the_context(positions):
    gpt = lively(positions=positions)
    prompt = X[:4, :3]
    with_cache = gpt.generate(prompt, 9, seed=3)
    without = gpt.generate(prompt, 9, seed=3, cache=False)
    np.testing.assert_array_equal(with_cache, without)
    assert with_cache.shape == (4, 12) and with_cache.dtype == "int32"
    np.testing.assert_array_equal(with_cache[:, :3], prompt)
    assert (gpt.generate(prompt, 9, seed=4) != with_cache).any()
    tokens = prompt
    for _ in range(9):
        best = log_softmax(gpt, tokens[:, -8:])[:, -1].argmax(axis=-1)
        tokens = np.concatenate([tokens, best[:, None]], axis=1)
    greedy = gpt.generate(prompt, 9, decoding.greedy())
    np.testing.assert_array_equal(greedy, tokens)


def test_samples_are_distributed_as_the_model_says():
    gpt = lively(vocab=3)
    n = 4000
    found = gpt.generate(np.ones((n, 1), int), 2, seed=1)[:, 1:]
    counts = np.bincount(found @ [3, 1], minlength=9)
    texts = np.array([(1, *rest) for rest in itertools.product(range(3), repeat=2)])
    p = np.exp(gpt.log_likelihood(texts))
    np.testing.assert_allclose(counts / n, p, atol=4 * np.sqrt(0.25 / n))


def test_a_stop_ends_each_text_on_its_own():
    gpt = lively()
    free = gpt.generate(X[:, :2], 6, seed=5)
    stopped = gpt.generate(X[:, :2], 6, seed=5, stop=4)
    ended = 0
    for row, other in zip(free[:, 2:].tolist(), stopped[:, 2:].tolist(), strict=True):
        end = row.index(4) + 1 if 4 in row else 6
        assert other == row[:end] + [4] * (6 - end)
        ended += end < 6
    assert ended > 0
    always = decoding.WithTokens(lambda logits, rng, tokens: np.full(len(tokens), 4))
    assert len(list(gpt.stream(X[:, :2], 6, always, stop=4))) == 1
    assert (gpt.generate(X[:, :2], 6, always, stop=4)[:, 2:] == 4).all()


def test_a_stream_yields_what_generate_returns():
    gpt = lively()
    stream = np.stack(list(gpt.stream(X[:, :2], 5, seed=2)), axis=1)
    np.testing.assert_array_equal(stream, gpt.generate(X[:, :2], 5, seed=2)[:, 2:])


def test_choices_that_read_the_text_see_prompt_and_answer():
    gpt, seen = lively(), []

    def note(logits, rng, tokens):
        seen.append(tokens.tolist())
        return tokens[:, 0]

    gpt.generate([[3, 1]], 2, decoding.WithTokens(note))
    assert seen == [[[3, 1]], [[3, 1, 3]]]
    allowed = decoding.only(lambda row: [(row[-1] + 1) % 5])
    assert gpt.generate([[2]], 4, allowed).tolist() == [[2, 3, 4, 0, 1]]


def test_attention_maps_are_causal_weights_that_explain_the_values():
    gpt = lively()
    maps = gpt.attention_maps(X[:, :7])
    assert maps.shape == (2, 12, 2, 7, 7)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    assert (maps[..., ~np.tri(7, dtype=bool)] == 0).all()
    x = gpt.network.embed(ops.convert_to_tensor(X[:, :7].astype("int32")))
    _, first = gpt.blocks[0].attention(gpt.blocks[0].norm_1(x), return_weights=True)
    np.testing.assert_allclose(maps[0], numpy(first), atol=1e-5)


def test_a_model_that_was_trained_is_used_not_the_one_that_was_compiled():
    gpt = make_gpt(5, **SMALL)
    constant = np.full((32, 9), 3)
    before = gpt.log_likelihood(constant)[0]
    gpt.generate(constant[:1, :1], 2)
    gpt.compile(keras.optimizers.Adam(1e-2))
    gpt.fit(constant, epochs=30, verbose=0)
    assert gpt.log_likelihood(constant)[0] > -0.1 > before
    found = gpt.generate(constant[:2, :1], 12, decoding.greedy())
    assert (found == 3).all()


def test_one_batch_can_be_learnt_by_heart():
    gpt = make_gpt(5, **SMALL)
    gpt.compile(keras.optimizers.Adam(1e-2))
    x = X[:4].copy()
    x[:, 0] = range(4)  # so that no beginning stands for two texts
    gpt.fit(x, epochs=150, verbose=0)
    assert -gpt.log_likelihood(x).mean() / 8 < 0.05


@pytest.mark.parametrize("tie", [True, False])
def test_a_saved_model_comes_back(tie, tmp_path):
    gpt = lively(tie=tie, positions="rotary", dropout=0.1)
    gpt.compile("adam")
    gpt.fit(X, verbose=0)
    gpt.save(tmp_path / "gpt.keras")
    back = keras.saving.load_model(tmp_path / "gpt.keras")
    assert back.settings == gpt.settings and back.name == gpt.name
    np.testing.assert_allclose(back.log_likelihood(X), gpt.log_likelihood(X), atol=1e-5)
    gpt.save_weights(tmp_path / "gpt.weights.h5")
    fresh = GPT.from_config(gpt.get_config())
    assert abs(fresh.log_likelihood(X) - gpt.log_likelihood(X)).max() > 0.1
    fresh.load_weights(tmp_path / "gpt.weights.h5")
    np.testing.assert_allclose(
        fresh.log_likelihood(X), gpt.log_likelihood(X), atol=1e-5
    )
    rest = [m.fit(X, shuffle=False, verbose=0).history["loss"] for m in (gpt, back)]
    assert rest[0] == pytest.approx(rest[1], rel=1e-4)  # dropout goes on as well


def test_the_defaults_and_the_start_of_the_weights():
    gpt = make_gpt(65)
    assert gpt.settings == {
        "vocab_size": 65,
        "context": 64,
        "width": 128,
        "depth": 4,
        "heads": 4,
        "positions": "learned",
        "tie": True,
        "dropout": 0.0,
        "seed": 0,
    }
    assert gpt.data == Field("int32", 0, 64) and gpt.condition is None
    count = sum(math.prod(v.shape) for v in gpt.trainable_variables)
    # per block: 12 width^2, biases 9 width, two norms 4 width; tables; last norm
    assert count == 4 * (12 * 128**2 + 13 * 128) + (65 + 64) * 128 + 2 * 128
    for table in (gpt.network.embedding, gpt.network.places):
        assert numpy(table.embeddings).std() == pytest.approx(0.2, rel=0.05)
    np.testing.assert_allclose(numpy(gpt.network.norm.gamma), 0.1)
    block = gpt.blocks[0]
    ratio = numpy(block.attention.project.kernel).std() / math.sqrt(1 / 128)
    assert ratio == pytest.approx(8**-0.5, rel=0.05)
    kernels = [
        numpy(v) for b in gpt.blocks for v in (b.expand.kernel, b.contract.kernel)
    ]
    assert len({round(float(k.flat[0]), 9) for k in kernels}) == 8  # a seed each


@pytest.mark.parametrize("positions", POSITIONS)
def test_at_the_start_a_block_does_not_drown_the_token(positions):
    gpt = make_gpt(40, context=32, width=64, depth=2, heads=4, positions=positions)
    tokens = np.random.default_rng(0).integers(0, 40, (8, 32)).astype("int32")
    before = gpt.network.embed(ops.convert_to_tensor(tokens))
    added = numpy(gpt.blocks[0](before)) - numpy(before)
    assert numpy(before).std() > 0.5 * added.std()


def test_two_seeds_are_two_models_one_seed_is_one():
    first, again, other = (make_gpt(5, **SMALL, seed=s) for s in (1, 1, 2))
    np.testing.assert_allclose(
        log_softmax(first, X[:, :8]), log_softmax(again, X[:, :8])
    )
    assert abs(log_softmax(first, X[:, :8]) - log_softmax(other, X[:, :8])).max() > 1e-3


def test_a_gpt_refuses_what_it_cannot_use():
    gpt = make_gpt(5, **SMALL)
    gpt.compile("adam")
    with pytest.raises(ValueError, match=r"`x` must lie in \[0, 4\].*Received"):
        gpt.fit(X + 1)
    with pytest.raises(TypeError, match=r"`x` must hold whole numbers.*float"):
        gpt.fit(X.astype("float32"))
    with pytest.raises(ValueError, match=r"`y` must lie in \[0.0, 1.0\]"):
        gpt.fit(X, 2 * np.ones(X.shape))
    with pytest.raises(ValueError, match=r"at most 8 long.*Received: 10"):
        gpt(ops.zeros((1, 10), "int32"))
    with pytest.raises(ValueError, match=r"`tokens` must have at most 9 columns"):
        gpt.log_likelihood(np.zeros((1, 10), int))
    with pytest.raises(ValueError, match=r"`prompt` must have 2 axes.*Received"):
        gpt.generate([1, 2], 3)
    with pytest.raises(ValueError, match=r"`length` must .*Received: 0"):
        gpt.generate(X[:, :2], 0)
    with pytest.raises(ValueError, match=r"`mask` must have shape"):
        gpt.log_likelihood(X, np.ones((12, 8)))
    for bad in ({"positions": "alibi"}, {"heads": 3}, {"depth": 0}):
        with pytest.raises(ValueError, match="Received"):
            make_gpt(5, **SMALL | bad)
