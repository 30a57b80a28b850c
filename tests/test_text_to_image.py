"""Captions: cross-attention, the text Transformer, a flow that reads, and CLIP."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tensors import numpy, shaken

from genai_utils import layers, losses, networks
from genai_utils.models import clip, flow

pytestmark = pytest.mark.engines
RNG = np.random.default_rng(27)
TOKENS = RNG.integers(1, 9, (6, 5)).astype("int32")


def test_cross_attention_is_that_of_keras():
    mine = shaken(layers.CrossAttention(8, 2, other=6))
    theirs = keras.layers.MultiHeadAttention(2, 4)
    x, y = (RNG.normal(size=(3, n, w)).astype("float32") for n, w in ((7, 8), (5, 6)))
    theirs.build(x.shape, y.shape)
    query, key, value, out = (mine.query, mine.key, mine.value, mine.project)
    weights = []
    for layer in (query, key, value):
        kernel, bias = (numpy(w) for w in (layer.kernel, layer.bias))
        weights += [kernel.reshape(-1, 2, 4), bias.reshape(2, 4)]
    weights += [numpy(out.kernel).reshape(2, 4, 8), numpy(out.bias)]
    theirs.set_weights(weights)
    wanted, scores = theirs(x, y, return_attention_scores=True)
    found, weights = mine(x, y, return_weights=True)
    np.testing.assert_allclose(numpy(found), numpy(wanted), atol=1e-5)
    np.testing.assert_allclose(numpy(weights), numpy(scores), atol=1e-5)
    np.testing.assert_allclose(numpy(mine(x, y)), numpy(found), atol=1e-6)


def test_cross_attention_needs_equal_heads():
    with pytest.raises(ValueError, match="`width` must be a multiple of `heads`"):
        layers.CrossAttention(8, 3)


def test_a_bag_of_words_does_not_know_the_order_and_a_sentence_does():
    order = np.array([3, 0, 4, 1, 2])
    for ordered in (True, False):
        net = networks.make_text_encoder(9, 5, 8, heads=2, ordered=ordered)
        found = numpy(net(TOKENS))
        turned = numpy(net(TOKENS[:, order]))
        same = np.allclose(turned, found[:, order], atol=1e-5)
        assert same != ordered


@pytest.mark.parametrize("attend", [True, False])
def test_text_transformer_draws_nothing_at_first_then_listens_to_everything(attend):
    net = networks.make_text_transformer(
        (2, 3, 4), 9, 5, width=8, depth=2, heads=2, text_width=8, attend=attend
    )
    x = RNG.normal(size=(6, 2, 3, 4)).astype("float32")
    t = np.full((6, 1), 0.4, "float32")
    assert not numpy(net([x, t, TOKENS])).any()
    base = numpy(shaken(net)([x, t, TOKENS]))
    assert base.shape == x.shape
    other = TOKENS.copy()
    other[:, 4] = 9 - other[:, 4]  # the last word
    moved = x.copy()
    moved[:, 1, 2] += 1.0  # one position
    for inputs in ([moved, t, TOKENS], [x, 0.5 * t, TOKENS], [x, t, other]):
        change = np.abs(numpy(net(inputs)) - base)
        assert (change.max(axis=(1, 3)) > 1e-4).all()  # everywhere


@pytest.mark.parametrize("depth", [1, 2])
def test_attention_maps_are_those_of_the_network(depth):
    net = networks.make_text_transformer(
        (2, 3, 4), 9, 5, width=8, depth=depth, heads=2, text_width=8
    )
    x = RNG.normal(size=(6, 2, 3, 4))
    maps = networks.attention_maps(shaken(net), x, 0.4, TOKENS)
    assert maps.shape == (depth, 6, 2, 6, 5)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    other = networks.attention_maps(net, x[:2], 0.4, TOKENS[:1])
    np.testing.assert_allclose(other[:, 0], maps[:, 0], atol=1e-5)
    # the first block by hand, from what it is given
    look = net.get_layer("look_0")
    inputs = [x.astype("float32"), np.full((6, 1), 0.4, "float32"), TOKENS]
    given = keras.Model(net.inputs, look.input)(inputs)
    q, k = (
        numpy(layer(v)) for layer, v in zip((look.query, look.key), given, strict=True)
    )
    scores = np.einsum("btd,bsd->bts", q[..., :4], k[..., :4]) / 2.0  # head 0
    wanted = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(maps[0, :, 0], wanted, atol=1e-5)


def small_flow(**kwargs):
    settings = {"width": 8, "depth": 1, "heads": 2, "text_width": 8} | kwargs
    return flow.make_text_flow((2, 2, 3), 9, 5, **settings)


def test_loss_of_a_flow_that_reads_by_hand():
    model = small_flow(text_dropout=0.4, shift=3.0)
    shaken(model.network)
    x = RNG.normal(size=(6, 2, 2, 3)).astype("float32")
    twin = keras.random.SeedGenerator(0)  # as the model's
    eps = numpy(keras.random.normal(x.shape, seed=twin))
    u = numpy(keras.random.uniform((6, 1), seed=twin))
    hide = numpy(keras.random.uniform((6, 1), seed=twin)) < 0.4
    t = u / (u + 3.0 * (1.0 - u))
    s = t[:, :, None, None]
    inputs = [(1 - s) * eps + s * x, t, np.where(hide, 0, TOKENS)]
    wanted = np.mean((numpy(model.network(inputs)) - (x - eps)) ** 2)
    found = model.players()[0].loss(
        ops.convert_to_tensor(x), ops.convert_to_tensor(TOKENS), False
    )
    assert 0 < hide.sum() < 6
    assert float(numpy(found)) == pytest.approx(float(wanted), rel=1e-4)


def test_guidance_is_a_straight_line_from_the_empty_caption():
    model = small_flow()
    shaken(model.network)
    x = RNG.normal(size=(6, 2, 2, 3))
    told, plain = model.velocity(x, 0.3, TOKENS), model.velocity(x, 0.3)
    instead = model.velocity(x, 0.3, TOKENS[:1])
    np.testing.assert_allclose(
        plain, model.velocity(x, 0.3, np.zeros((1, 5), "int32")), atol=1e-5
    )
    assert np.abs(told - plain).max() > 1e-3
    for w, origin, tokens in (
        (2.5, plain, None),
        (0.0, plain, None),
        (3.0, instead, 1),
    ):
        field = model.guided(TOKENS, w, None if tokens is None else TOKENS[:1])
        wanted = origin + w * (told - origin)
        np.testing.assert_allclose(field(x, 0.3), wanted, atol=1e-5)
    np.testing.assert_allclose(model.guided(TOKENS)(x, 0.3), told, atol=1e-6)


def test_flow_that_reads_trains_samples_and_is_saved(tmp_path):
    model = small_flow()
    model.compile("adam")
    x = RNG.normal(size=(6, 2, 2, 3)).astype("float32")
    model.fit(x, TOKENS, batch_size=3, epochs=2, verbose=0)
    made = model.sample(4, 1, steps=2, tokens=TOKENS[:4], guidance=2.0)
    assert made.shape == (4, 2, 2, 3)
    one = model.sample(4, 1, steps=2, tokens=np.repeat(TOKENS[:1], 4, 0))
    np.testing.assert_allclose(
        model.sample(4, 1, steps=2, tokens=TOKENS[:1]), one, atol=1e-6
    )
    model.save(tmp_path / "flow.keras")
    again = keras.saving.load_model(tmp_path / "flow.keras")
    np.testing.assert_allclose(
        again.sample(4, 1, steps=2, tokens=TOKENS[:4], guidance=2.0), made, atol=1e-5
    )
    assert (again.vocab_size, again.shift) == (9, 3.0)


def test_flow_refuses_what_it_cannot_read():
    model = small_flow()
    x = np.zeros((6, 2, 2, 3))
    with pytest.raises(ValueError, match=r"`tokens` must have shape \(6, 5\)"):
        model.velocity(x, 0.5, TOKENS[:2])
    with pytest.raises(ValueError, match=r"`tokens` must lie in \[0, 8\]"):
        model.velocity(x, 0.5, TOKENS + 9)
    with pytest.raises(TypeError, match="`tokens` must hold whole numbers"):
        model.velocity(x, 0.5, TOKENS - 0.5)
    plain = flow.make_point_flow(2, (4,))
    with pytest.raises(ValueError, match="`tokens` are for a model that reads"):
        plain.velocity(np.zeros((6, 2)), 0.5, TOKENS)
    with pytest.raises(ValueError, match=r"`network` must take \[x, t, tokens\]"):
        flow.FlowMatching(plain.network, vocab_size=9)
    with pytest.raises(ValueError, match="`shift` must be a finite number above 0"):
        flow.FlowMatching(plain.network, shift=0.0)


def test_contrast_in_both_directions_by_brute_force():
    a, b = RNG.normal(size=(2, 5, 3)).astype("float32")
    cos = np.array(
        [[u @ v / np.linalg.norm(u) / np.linalg.norm(v) for v in b] for u in a]
    )
    e = np.exp(cos / 0.2)
    total = 0.0
    for i in range(5):
        total -= np.log(e[i, i] / e[i].sum()) + np.log(e[i, i] / e[:, i].sum())
    found = float(losses.symmetric_info_nce(a, b, 0.2))
    assert found == pytest.approx(total / 10, rel=1e-4)
    assert found == pytest.approx(float(losses.symmetric_info_nce(b, a, 0.2)), rel=1e-5)


def test_clip_learns_to_tell_four_images_apart(tmp_path):
    x = np.clip(RNG.normal(size=(4, 8, 8, 1)), -1, 1).astype("float32")
    tokens = TOKENS[:4]
    model = clip.make_clip((8, 8, 1), 9, 5, dim=8, temperature=0.2)
    model.compile(keras.optimizers.Adam(3e-3))
    first = model.evaluate(x, tokens, verbose=0)
    wanted = losses.symmetric_info_nce(
        model.encode_images(x), model.encode_texts(tokens), 0.2
    )
    assert first == pytest.approx(float(wanted), rel=1e-3)
    model.fit(x, tokens, batch_size=4, epochs=60, verbose=0)
    cosines = model.similarity(x, tokens)
    assert cosines.argmax(axis=1).tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(model.score(x, tokens), np.diagonal(cosines), atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(model.encode_images(x), axis=1), 1, atol=1e-5
    )
    model.save(tmp_path / "clip.keras")
    again = keras.saving.load_model(tmp_path / "clip.keras")
    np.testing.assert_allclose(again.similarity(x, tokens), cosines, atol=1e-5)


def test_clip_refuses_bad_input():
    with pytest.raises(ValueError, match="`temperature` must be a finite number above"):
        clip.make_clip((8, 8, 1), 9, 5, temperature=0.0)
    model = clip.make_clip((8, 8, 1), 9, 5, dim=4)
    with pytest.raises(ValueError, match=r"`x` must lie in \[-1.0, 1.0\]"):
        model.encode_images(np.full((1, 8, 8, 1), 2.0))
    with pytest.raises(ValueError, match=r"`tokens` must lie in \[0, 8\]"):
        model.encode_texts(TOKENS + 9)
