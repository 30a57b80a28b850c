"""NumPy networks against Keras', rounding against its bound, cards against damage."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

from genai_utils import export
from genai_utils.layers import AppendClass, network
from genai_utils.models.gan import make_dcgan, make_dense_gan, make_toy_gan
from genai_utils.models.vae import make_conv_vae, make_dense_vae

RNG = np.random.default_rng(0)
SMALL = {"image_shape": (8, 8, 1), "latent_dim": 3}
MAKERS = {
    "dense VAE": lambda: make_dense_vae(**SMALL, hidden=(16, 8)).decoder,
    "conditional VAE": lambda: (
        make_dense_vae(**SMALL, hidden=(16, 8), num_classes=4).decoder
    ),
    "convolutional VAE": lambda: make_conv_vae(**SMALL, filters=(4, 6)).decoder,
    "dense GAN": lambda: make_dense_gan(**SMALL).generator,
    "DCGAN": lambda: make_dcgan(**SMALL, filters=(8, 4)).generator,
    "conditional DCGAN": lambda: (
        make_dcgan(**SMALL, filters=(8, 4), num_classes=4, how="concatenate").generator
    ),
    "toy GAN": lambda: make_toy_gan().generator,
}
CARD = {
    "name": "a model",
    "data": "digits",
    "licence": "CC BY 4.0",
    "recipe": {"epochs": 1},
    "metrics": {"frechet": {"value": 1.0, "error": 0.1}},
    "limits": "many",
}


def shaken(net):
    """Other weights everywhere: running averages and biases are no longer 0 and 1."""
    net.set_weights([RNG.uniform(0.1, 0.5, w.shape) for w in net.get_weights()])
    return net


def inputs(net, n=5):
    shapes = net.input_shape
    if len(net.inputs) == 1:
        return [RNG.standard_normal((n, *shapes[1:])).astype("float32")]
    z = RNG.standard_normal((n, *shapes[0][1:])).astype("float32")
    return [z, RNG.integers(0, 4, (n, 1)).astype("int32")]


def keras_says(net, fed):
    return net.predict(fed if len(fed) > 1 else fed[0], verbose=0)


@pytest.mark.engines
@pytest.mark.parametrize("name", MAKERS)
def test_a_network_computes_what_keras_does_also_from_its_file(name, tmp_path):
    net = shaken(MAKERS[name]())
    read = export.read_network(net)
    fed = inputs(net)
    theirs = keras_says(net, fed)
    assert np.allclose(read(*fed), theirs, atol=1e-5)
    path = export.save_network(tmp_path / "n.npz", read)
    again = export.load_network(path)
    assert np.array_equal(again(*fed), read(*fed))
    assert again.num_classes == read.num_classes == (4 if len(fed) > 1 else None)


@pytest.mark.engines
@pytest.mark.parametrize(
    ("kernel", "strides"), [(4, 2), (3, 2), (3, 3), (5, 2), (3, 1)]
)
def test_transposed_convolutions_of_all_sizes(kernel, strides):
    net = keras.Sequential(
        [
            layers.Input((4, 5, 3)),
            layers.Conv2DTranspose(2, kernel, strides, "same", activation="relu"),
        ]
    )
    z = RNG.standard_normal((3, 4, 5, 3)).astype("float32")
    ours = export.read_network(net)(z)
    assert np.allclose(ours, net.predict(z, verbose=0), atol=1e-5)


@pytest.mark.engines
def test_an_embedded_label_and_a_bernoulli_end():
    parts = [AppendClass(4, width=2), layers.Dense(6), layers.Reshape((2, 3))]
    net = shaken(network(parts, (3,), 4))
    fed = inputs(net)
    read = export.read_network(net, final="bernoulli")
    mean = 2 / (1 + np.exp(-keras_says(net, fed).astype("float64"))) - 1
    assert np.allclose(read(*fed), mean, atol=1e-6)


ORDERED = """
import hashlib, numpy as np
from genai_utils.export import Network
rng = np.random.default_rng(0)
steps = [{"do": "dense", "activation": "relu", "arrays": ["w", "b"]}] * 2
steps += [{"do": "reshape", "shape": [4, 4, 8]}]
steps += [{"do": "stamp", "stride": 2, "activation": "tanh", "arrays": ["w", "b"]}]
arrays = {"3.w": rng.normal(0, 0.1, (4, 4, 3, 8)).astype("float32")}
arrays["3.b"] = np.zeros(3, "float32")
for i, shape in enumerate([(20, 96), (96, 128)]):
    arrays[f"{i}.w"] = rng.normal(0, 0.2, shape).astype("float32")
    arrays[f"{i}.b"] = np.zeros(shape[1], "float32")
net = Network(tuple(steps), arrays, (20,), ordered=True)
z = rng.standard_normal((64, 20)).astype("float32")
whole = net(z)
"""


def test_an_ordered_network_gives_each_row_the_same_bits_in_any_batch():
    names = {}
    exec(ORDERED, names)
    net, z, whole = names["net"], names["z"], names["whole"]
    for size in (1, 2, 3, 7, 16, 33, 63):
        assert np.array_equal(net(z[:size]), whole[:size])
    for k in range(1, 64, 5):
        assert np.array_equal(np.roll(net(np.roll(z, k, 0)), -k, 0), whole)
    plain = dataclasses.replace(net, ordered=False)
    assert np.allclose(plain(z), whole, atol=1e-5)


@pytest.mark.parametrize("kernel", ["Haswell", "Prescott"])
def test_an_ordered_network_gives_the_same_bits_with_other_matrix_kernels(kernel):
    names = {}
    exec(ORDERED, names)
    code = ORDERED + "print(hashlib.sha256(whole.tobytes()).hexdigest())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENBLAS_CORETYPE": kernel},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = hashlib.sha256(names["whole"].tobytes()).hexdigest()
    assert done.stdout.strip() == ours


def test_layers_that_are_not_known_are_refused():
    for layer in (layers.LayerNormalization(), layers.Dense(2, "softmax")):
        net = keras.Sequential([layers.Input((3,)), layer])
        with pytest.raises(ValueError, match="Received: layer"):
            export.read_network(net)
    x = layers.Input((3,))
    net = keras.Model(x, layers.Dense(3)(x) + layers.Dense(3)(x))
    with pytest.raises(ValueError, match=r"`net` must"):
        export.read_network(net)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("axis", [0, 2, -1])
def test_rounding_errs_by_half_a_step_at_most(bits, axis):
    w = RNG.standard_normal((5, 4, 6)) * 10.0 ** RNG.uniform(-3, 3, 6)
    q, scale = export.quantise(w, bits, axis)
    most = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(3) if i != axis % 3)
    assert q.dtype == np.int8 and np.abs(q).max(axis=others).min() == most
    gap = np.abs(export.dequantise(q, scale) - w)
    assert (gap <= 0.5 * scale * (1 + 1e-5)).all()
    assert np.allclose(scale * most, np.abs(w).max(axis=others, keepdims=True))


def test_a_dead_channel_stays_dead_and_whole_numbers_stay_exact():
    w = np.array([[0.0, -127.0], [0.0, 5.0]])
    q, scale = export.quantise(w)
    assert np.array_equal(export.dequantise(q, scale), w)
    assert q.tolist() == [[0, -127], [0, 5]]


@pytest.mark.parametrize("bits", [1, 9, 8.5, True, "8"])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match="`bits` must be"):
        export.quantise(np.ones((2, 2)), bits)
    with pytest.raises(ValueError, match="`bits` must be"):
        export.save_network("x.npz", None, 64)


@pytest.mark.parametrize("bits", export.BITS)
def test_files_of_all_widths(bits, tmp_path):
    read = export.read_network(MAKERS["DCGAN"]())
    path = export.save_network(tmp_path / "n.npz", read, bits)
    first = path.read_bytes()
    again = export.load_network(path)
    for name, w in read.arrays.items():
        if not name.endswith(".w") or bits == 32:
            assert np.array_equal(again.arrays[name], w)
        elif bits == 16:
            assert np.array_equal(again.arrays[name], w.astype("float16"))
        else:
            q, scale = export.quantise(w, bits, -1 if w.ndim == 2 else 2)
            assert np.array_equal(again.arrays[name], export.dequantise(q, scale))
    assert export.save_network(path, read, bits).read_bytes() == first  # same bytes


def test_a_file_grows_with_its_bits(tmp_path):
    read = export.read_network(MAKERS["dense GAN"]())
    weights = sum(w.size for k, w in read.arrays.items() if k.endswith(".w"))
    sizes = {
        b: export.save_network(tmp_path / f"{b}.npz", read, b).stat().st_size
        for b in export.BITS
    }
    assert sizes[32] - sizes[16] == 2 * weights
    assert abs(sizes[8] - sizes[4] - weights / 2) < 16


def test_loading_never_unpickles(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = tmp_path / "n.npz"
    np.savez(path, head=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="`path` must be a whole file"):
        export.load_network(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="`path` must be a whole file"):
        export.load_network(path)
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_or_foreign_file_is_refused(tmp_path):
    path = export.save_network(
        tmp_path / "n.npz", export.read_network(MAKERS["toy GAN"]())
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="Export the model again"):
        export.load_network(path)
    np.savez(path, a=np.ones(3))
    with pytest.raises(ValueError, match="Export the model again"):
        export.load_network(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("head.npy", b"nothing")
    with pytest.raises(ValueError, match="Export the model again"):
        export.load_network(path)
    with pytest.raises(FileNotFoundError):
        export.load_network(tmp_path / "lost.npz")


@pytest.mark.engines
@pytest.mark.parametrize("name", ["dense VAE", "conditional VAE"])
def test_the_sampler_is_the_models_own(name):
    vae = make_dense_vae(
        **SMALL, hidden=(16, 8), num_classes=4 if "cond" in name else None
    )
    read = export.read_network(vae.decoder)
    sampler = export.LatentSampler(read, 3, read.num_classes, rows=16)
    told = {"labels": 2} if read.num_classes else {}
    label = 2 if told else None
    assert np.allclose(sampler(20, 5, label), vae.sample(20, 5, **told), atol=1e-5)
    assert np.allclose(sampler(20, 5), vae.sample(20, 5), atol=1e-5)


def test_a_sampler_always_decodes_blocks_of_one_size():
    seen = []

    def network(z):
        seen.append(z.shape)
        return 2 * z

    sampler = export.LatentSampler(network, 3, rows=8)
    assert sampler(19, 1).shape == (19, 3)
    assert seen == [(8, 3)] * 3
    z = np.random.default_rng(1).standard_normal((19, 3)).astype("float32")
    assert np.array_equal(sampler(19, 1), 2 * z)
    with pytest.raises(ValueError, match="labels"):
        sampler(2, 0, label=1)
    with pytest.raises(ValueError, match="`n` must be"):
        sampler(0)


def test_a_card_says_all_and_guards_its_files(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"weights")
    path = export.save_card(tmp_path, CARD, ["a.npz"])
    card = export.load_card(tmp_path)
    assert card["files"]["a.npz"] == {
        "bytes": 7,
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }
    assert {k: card[k] for k in CARD} == CARD
    (tmp_path / "a.npz").write_bytes(b"Weights")
    with pytest.raises(ValueError, match=r"`a\.npz` must have the SHA-256"):
        export.load_card(tmp_path)
    text = json.loads(path.read_text("utf-8"))
    text["files"] = {"../a.npz": text["files"]["a.npz"]}
    path.write_text(json.dumps(text), "utf-8")
    with pytest.raises(ValueError, match="files beside it"):
        export.load_card(tmp_path)


def test_the_hash_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert export.sha256(tmp_path / "abc").startswith(
        "ba7816bf8f01cfea414140de5dae2223"
    )


@pytest.mark.parametrize("name", export.CARD_FIELDS)
def test_a_card_with_a_hole_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"nothing about {name}"):
        export.save_card(tmp_path, {**CARD, name: ""}, [])


def test_a_metric_without_an_error_is_refused(tmp_path):
    bad = {**CARD, "metrics": {"frechet": {"value": 1.0}}}
    with pytest.raises(ValueError, match="standard deviation"):
        export.save_card(tmp_path, bad, [])


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "[" * 5000,
        "null",
        json.dumps(CARD),
        json.dumps({**CARD, "files": {}}),
        json.dumps({**CARD, "files": ["a.npz"]}),
        json.dumps({**CARD, "files": {"a.npz": {}}}),
        json.dumps({**CARD, "files": {"a.npz": {"sha256": 5}}}),
        json.dumps({"files": {"a.npz": {"sha256": "0"}}}),
    ],
)
def test_what_is_no_card_is_refused(text, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"weights")
    (tmp_path / "card.json").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"`card\.json` must be a card.*without"):
        export.load_card(tmp_path)


def test_a_file_that_is_read_must_be_on_the_card(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"weights")
    export.save_card(tmp_path, CARD, ["a"])
    assert export.load_card(tmp_path, needs=["a"])["name"] == CARD["name"]
    with pytest.raises(export.CardError, match="Received: none for b"):
        export.load_card(tmp_path, needs=["a", "b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do": "evil"}, "step 0 is an unknown 'evil'"),
        ({"activation": "evil"}, "unknown activation 'evil'"),
        ({"arrays": ["w"]}, "step 0, dense, lacks b"),
        ({"arrays": ["w", "b", "c"]}, "step 0, dense, lacks c"),
        ({"do": "reshape", "arrays": []}, "step 0, reshape, lacks shape"),
    ],
)
def test_a_file_with_unknown_steps_is_refused(change, message, tmp_path):
    step = {"do": "dense", "activation": "tanh", "arrays": ["w", "b"]}
    arrays = {"0.w": np.ones((3, 2), "float32"), "0.b": np.zeros(2, "float32")}
    good = export.save_network(tmp_path / "n", export.Network((step,), arrays, (3,)))
    assert export.load_network(good).steps == (step,)
    bad = export.Network(({**step, **change},), arrays, (3,))
    path = export.save_network(tmp_path / "n.npz", bad)
    with pytest.raises(ValueError, match=f"Received: n.npz .*{message}.*Export the"):
        export.load_network(path)
