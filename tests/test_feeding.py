"""What a game takes: arrays, data sets, generators; with conditions and without."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from genai_utils.feeding import in_batches, look_at_validation, split
from genai_utils.game import Field, Game, Player
from genai_utils.models.gan import make_toy_gan

pytestmark = pytest.mark.engines
rng = np.random.default_rng(0)


class Bigram(Game):
    """Next-token prediction from the last token alone: a table of logits."""

    data = Field("int32", 0, 4)

    def __init__(self):
        super().__init__()
        self.table = keras.Sequential(
            [keras.Input((None,)), layers.Embedding(5, 5, "zeros")]
        )

    def players(self):
        return [Player("bigram", [self.table], self.loss_of)]

    def loss_of(self, x, training):
        logits = self.table(x[:, :-1])  # (B, T - 1, 5)
        return ops.mean(
            keras.losses.sparse_categorical_crossentropy(
                x[:, 1:], logits, from_logits=True
            )
        )


class ConditionalGAN(Game):
    """Points near (2, 0) or (-2, 0), as the label says."""

    condition = Field("int32", 0, 1)

    def __init__(self):
        super().__init__()
        init = [keras.initializers.GlorotUniform(i) for i in range(4)]
        self.generator, self.discriminator = (
            keras.Sequential(
                [
                    keras.Input((4,)),
                    layers.Dense(16, "relu", kernel_initializer=init[2 * i]),
                    layers.Dense(outputs, kernel_initializer=init[2 * i + 1]),
                ]
            )
            for i, outputs in enumerate((2, 1))
        )
        self.seed_generator = keras.random.SeedGenerator(0)

    def players(self):
        return [
            Player("d", [self.discriminator], self.d_loss),
            Player("g", [self.generator], self.g_loss),
        ]

    def judge(self, x, y):
        return self.discriminator(ops.concatenate([x, ops.one_hot(y, 2)], -1))

    def draw(self, y):
        z = keras.random.normal((ops.shape(y)[0], 2), seed=self.seed_generator)
        return self.generator(ops.concatenate([z, ops.one_hot(y, 2)], -1))

    def d_loss(self, x, y, training):
        fake = self.judge(ops.stop_gradient(self.draw(y)), y)
        return ops.mean(ops.softplus(-self.judge(x, y)) + ops.softplus(fake))

    def g_loss(self, x, y, training):
        return ops.mean(ops.softplus(-self.judge(self.draw(y), y)))


LABELS = rng.integers(0, 2, 64)
POINTS = (4.0 * LABELS[:, None] - 2) * [1, 0] + 0.1 * rng.standard_normal((64, 2))
TOKENS = rng.integers(0, 5, (64, 9))


def tf_data(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(16)


def loader(*arrays):
    torch = pytest.importorskip("torch")
    sets = torch.utils.data.TensorDataset(*map(torch.tensor, arrays))
    return torch.utils.data.DataLoader(sets, batch_size=16)


def generator(*arrays):
    return (tuple(a[i : i + 16] for a in arrays) for i in range(0, 64, 16))


class Sequence(keras.utils.PyDataset):
    """Batches by number, as Keras' own class wants them."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        """Count the batches."""
        return 4

    def __getitem__(self, i):
        """Return a batch."""
        return tuple(a[16 * i : 16 * i + 16] for a in self.arrays)


SOURCES = {
    "arrays": lambda *arrays: arrays,
    "tf.data": lambda *arrays: (tf_data(*arrays),),
    "DataLoader": lambda *arrays: (loader(*arrays),),
    "generator": lambda *arrays: (generator(*arrays),),
    "PyDataset": lambda *arrays: (Sequence(*arrays),),
}


def trained(make, arrays, source, optimizer=None):
    keras.utils.set_random_seed(0)
    model = make()
    names = [p.name for p in model.players()]
    model.compile({n: keras.optimizers.SGD(0.5) for n in names})
    keywords = {"batch_size": 16, "shuffle": False} if source == "arrays" else {}
    fed = SOURCES[source](*arrays)
    history = model.fit(*fed, epochs=1, verbose=0, **keywords).history
    return history, [ops.convert_to_numpy(w) for w in model.trainable_variables]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["bigram", "conditional GAN"])
def test_every_source_gives_the_same_training(name, source):
    make, arrays = {
        "bigram": (Bigram, (TOKENS,)),
        "conditional GAN": (ConditionalGAN, (POINTS.astype("float32"), LABELS)),
    }[name]
    wanted, weights = trained(make, arrays, "arrays")
    found, others = trained(make, arrays, source)
    for key in wanted:
        np.testing.assert_allclose(found[key], wanted[key], rtol=1e-5)
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_bigram_learns_the_table_of_counts():
    chain = np.array([[0, 1, 2, 3, 4] * 20])  # each token is followed by the next
    model = Bigram()
    model.compile(keras.optimizers.Adam(0.5))
    model.fit(np.repeat(chain, 8, axis=0), epochs=40, verbose=0)
    logits = ops.convert_to_numpy(model.table(np.arange(5)[None]))[0]
    assert logits.argmax(axis=1).tolist() == [1, 2, 3, 4, 0]


def test_conditional_gan_obeys_its_labels():
    model = ConditionalGAN()
    model.compile({n: keras.optimizers.Adam(0.01, 0.5) for n in "dg"})
    model.fit(POINTS, LABELS, batch_size=16, epochs=60, verbose=0)
    drawn = ops.convert_to_numpy(model.draw(ops.convert_to_tensor(LABELS)))
    assert ((drawn[:, 0] > 0) == (LABELS == 1)).mean() > 0.95


def compiled(make):
    model = make()
    model.compile("sgd")
    return model


REFUSED = {
    "bigram, fractions": (Bigram, (TOKENS * 0.5,), "whole numbers"),
    "bigram, token 5": (Bigram, (TOKENS + 1,), "lie in"),
    "bigram, labels": (Bigram, (TOKENS, LABELS), "no targets.*`y`"),
    "cGAN, no labels": (ConditionalGAN, (POINTS,), "`y` must hold the conditions"),
    "cGAN, label 2": (ConditionalGAN, (POINTS, LABELS + 1), "`?y`? must lie"),
    "cGAN, NaN": (ConditionalGAN, (POINTS * np.nan, LABELS), "finite"),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", REFUSED)
def test_bad_food_is_refused_whatever_it_comes_in(name, source):
    make, arrays, message = REFUSED[name]
    model = compiled(make)
    before = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    with pytest.raises((TypeError, ValueError), match=message):
        model.fit(*SOURCES[source](*arrays), verbose=0)
    after = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("source", ["tf.data", "DataLoader", "generator", "PyDataset"])
def test_images_of_bytes_and_weights_are_refused(source):
    gan = make_toy_gan(data_range=(-1.0, 1.0))
    gan.compile("sgd")
    images = rng.integers(0, 256, (64, 2)).astype("uint8")
    with pytest.raises(ValueError, match=r"first batch of x.*lie in"):
        gan.fit(*SOURCES[source](images), verbose=0)
    ones = np.ones((64, 2), "float32")
    with pytest.raises(TypeError, match="takes no targets"):
        gan.fit(*SOURCES[source](ones, LABELS), verbose=0)


def test_as_many_conditions_as_samples():
    with pytest.raises(ValueError, match="one condition for each of the 64"):
        compiled(ConditionalGAN).fit(POINTS, LABELS[:-1], verbose=0)


def test_conditions_by_name():
    class Two(ConditionalGAN):
        condition = {"label": Field("int32", 0, 1), "weight": Field("float32", 0, 1)}

        def d_loss(self, x, y, training):
            return ops.mean(y["weight"]) * super().d_loss(x, y["label"], training)

        def g_loss(self, x, y, training):
            return super().g_loss(x, y["label"], training)

    model = compiled(Two)
    y = {"label": LABELS, "weight": np.full(64, 0.5)}
    history = model.fit(POINTS, y, epochs=1, validation_split=0.25, verbose=0).history
    assert {"d_loss", "val_g_loss"} <= set(history)
    for wrong in ({"label": LABELS}, {**y, "more": LABELS}, {"a": LABELS, "b": LABELS}):
        with pytest.raises(ValueError, match=r"exactly \['label', 'weight'\]"):
            model.fit(POINTS, wrong, verbose=0)
    assert len(model.evaluate(POINTS, y, verbose=0)) == 2


def test_an_unknown_number_of_batches_is_no_reason_to_warn():
    tf = pytest.importorskip("tensorflow")
    model = compiled(Bigram)

    def batches():
        yield from (TOKENS[i : i + 16] for i in range(0, 64, 16))

    spec = tf.TensorSpec((None, 9), "int64")
    unknown = tf.data.Dataset.from_generator(batches, output_signature=spec)
    history = model.fit(unknown, epochs=2, verbose=0).history  # warnings are errors
    assert len(history["loss"]) == 2


def test_a_batch_from_a_data_set_of_bytes_reaches_the_loss_as_declared():
    class Seen(Bigram):
        dtypes = set()

        def loss_of(self, x, training):
            self.dtypes.add(keras.backend.standardize_dtype(x.dtype))
            return super().loss_of(x, training)

    compiled(Seen).fit(*SOURCES["PyDataset"](TOKENS.astype("uint8")), verbose=0)
    assert Seen.dtypes == {"int32"}


def test_a_split_keeps_the_last_share_of_samples_and_conditions():
    x = np.arange(8)
    (a, y_a), (b, y_b) = split(x, {"double": 2 * x}, 0.25)
    np.testing.assert_array_equal(a, range(6))
    np.testing.assert_array_equal(b, [6, 7])
    np.testing.assert_array_equal(y_a["double"], range(0, 12, 2))
    np.testing.assert_array_equal(y_b["double"], [12, 14])
    assert split(x, None, 0.5)[1][1] is None
    for share in (0.01, 0.999):
        (a, _), (b, _) = split(np.arange(1000), None, share)
        assert (len(a), len(b)) == {0.01: (990, 10), 0.999: (1, 999)}[share]
    with pytest.raises(ValueError, match=r"`validation_split` must.* 8 samples"):
        split(x, None, 0.9)  # 0.8 samples to train on


def test_batches_hold_32_samples_unless_told_otherwise():
    x = np.zeros((70, 1), "float32")
    for given, size in (({}, 32), ({"batch_size": None}, 32), ({"batch_size": 7}, 7)):
        fed, y, kwargs = in_batches(x, None, given)
        assert y is None
        if fed is x:  # Keras cuts the data
            assert kwargs["batch_size"] == size
        else:
            assert len(fed) == -(-70 // size) and kwargs["batch_size"] is None
            assert kwargs["validation_batch_size"] == size and not kwargs["shuffle"]


@pytest.mark.parametrize("given", [{}, {"shuffle": True}, {"shuffle": False}])
def test_samples_are_shuffled_unless_told_otherwise(given):
    x = np.arange(64, dtype="float32")
    fed, _, kwargs = in_batches(x, None, {"batch_size": 16, **given})
    if fed is x:  # Keras cuts the data, and shuffles by default
        assert kwargs.get("shuffle", True) == given.get("shuffle", True)
        return
    order = np.concatenate([keras.ops.convert_to_numpy(b) for (b,) in fed])
    np.testing.assert_array_equal(np.sort(order), x)
    assert (order == x).all() == (given.get("shuffle") is False)


def test_weights_of_validation_samples_are_refused():
    model = make_toy_gan()
    points = POINTS.astype("float32")
    with pytest.raises(TypeError, match="takes no targets and no weights"):
        look_at_validation(model, (points, None, np.ones(64)))
    np.testing.assert_array_equal(look_at_validation(model, (points, None)), points)
    found = look_at_validation(model, (points, None, None))
    np.testing.assert_array_equal(found, points)
    x, y = look_at_validation(ConditionalGAN(), (points, LABELS))
    assert x.dtype == np.float32 and y.dtype == np.int32
    np.testing.assert_array_equal(y, LABELS)
