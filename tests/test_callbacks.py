"""Every callback that Keras ships, with a game of two players; and our own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from genai_utils.callbacks import Clock, StopAtNaN, averaged, listens_to_batches
from genai_utils.models.gan import make_toy_gan

pytestmark = pytest.mark.engines
X = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype("float32")


def gan(**kwargs):
    model = make_toy_gan()
    average = keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5)
    model.compile({"discriminator": "adam", "generator": average}, **kwargs)
    return model


C = keras.callbacks
MONITOR = "val_generator_loss"
#: How each is made, and what it needs; the others are bases of these.
SHIPPED = {
    "BackupAndRestore": lambda p: C.BackupAndRestore(str(p / "backup")),
    "CSVLogger": lambda p: C.CSVLogger(str(p / "log.csv")),
    "Callback": lambda p: C.Callback(),
    "EarlyStopping": lambda p: C.EarlyStopping(
        MONITOR, mode="min", restore_best_weights=True
    ),
    "History": lambda p: C.History(),
    "LambdaCallback": lambda p: C.LambdaCallback(on_epoch_end=lambda e, logs: None),
    "LearningRateScheduler": lambda p: C.LearningRateScheduler(lambda e, r: r / 2),
    "ModelCheckpoint": lambda p: C.ModelCheckpoint(
        str(p / "best.keras"), monitor=MONITOR, mode="min", save_best_only=True
    ),
    "ProgbarLogger": lambda p: C.ProgbarLogger(),
    "ReduceLROnPlateau": lambda p: C.ReduceLROnPlateau(MONITOR, mode="min"),
    "SwapEMAWeights": lambda p: C.SwapEMAWeights(),
    "TensorBoard": lambda p: C.TensorBoard(str(p / "logs")),
    "TerminateOnNaN": lambda p: C.TerminateOnNaN(),
}
#: These need a server, or packages that the book does not install.
ELSEWHERE = {"CallbackList", "OrbaxCheckpoint", "RemoteMonitor"}


def test_the_table_is_complete():
    shipped = {n for n in dir(C) if isinstance(getattr(C, n), type)}
    assert shipped == set(SHIPPED) | ELSEWHERE


@pytest.mark.parametrize("name", SHIPPED)
def test_a_callback_of_keras_works(name, tmp_path):
    if name == "TensorBoard":
        pytest.importorskip("tensorboard")
    model = gan()
    callback = SHIPPED[name](tmp_path)
    history = model.fit(
        X, epochs=2, validation_data=X, callbacks=[callback], verbose=0
    ).history
    assert len(history[MONITOR]) == 2
    files = {p.name.split(".")[-1] for p in tmp_path.rglob("*") if p.is_file()}
    wanted = {"CSVLogger": "csv", "ModelCheckpoint": "keras"}
    assert wanted.get(name, "none") in {*files, "none"}
    if name == "TensorBoard":
        assert any("tfevents" in p.name for p in tmp_path.rglob("*"))
    if name == "ModelCheckpoint":
        twin = keras.saving.load_model(tmp_path / "best.keras")
        assert twin.optimizer.use_ema and number(twin.optimizer.iterations) > 0


def number(x):
    return float(ops.convert_to_numpy(x))


def test_a_callback_that_listens_hears_of_every_batch():
    seen = []
    note = C.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model = gan()
    model.fit(X, batch_size=1, verbose=0)
    model.fit(X, batch_size=1, callbacks=[note], verbose=0)
    assert seen == list(range(40))
    assert number(model.optimizer.iterations) == 80


def test_who_listens_to_batches():
    assert not listens_to_batches(C.EarlyStopping())
    assert not listens_to_batches(C.LambdaCallback(on_epoch_end=print))
    assert listens_to_batches(C.LambdaCallback(on_train_batch_begin=print))
    assert listens_to_batches(C.TerminateOnNaN())


def test_the_progress_bar_counts_to_the_end(capsys):
    gan().fit(X, batch_size=1, verbose=1)
    shown = capsys.readouterr().out
    assert "40/40" in shown and "48/40" not in shown


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step a call there"
)
def test_steps_that_were_chosen_are_kept():
    model = gan(steps_per_execution=4)
    seen = []
    note = C.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(X, batch_size=1, callbacks=[note], verbose=0)
    assert seen == list(range(3, 40, 4))


def test_averaged_weights_are_lent_and_given_back():
    model = gan()
    model.fit(X, batch_size=8, epochs=1, verbose=0)
    g = model.optimizer.players["generator"]
    first = model.generator.trainable_variables[0]
    first.assign(ops.zeros(first.shape))
    with averaged(model):
        mean = ops.convert_to_numpy(g._model_variables_moving_average[0])
        np.testing.assert_array_equal(ops.convert_to_numpy(first), mean)
    assert not ops.convert_to_numpy(first).any()


def test_the_clock_scores_at_its_marks_and_stops():
    clock = Clock([0.0, 1e-9], lambda model: {"n": len(model.sample(3))})
    model = gan()
    model.fit(X, batch_size=8, epochs=50, callbacks=[clock], verbose=0)
    assert [p["n"] for p in clock.points] == [3]  # both marks passed at one batch
    assert clock.points[0]["steps"] == 1 and model.stop_training


def test_losses_are_looked_at_every_sixteenth_batch_and_at_the_end():
    stop = StopAtNaN()
    stop.on_epoch_begin(4)
    bad = {"fine": 1.0, "loss": float("nan"), "kl": float("inf")}
    for batch in (*range(15), *range(16, 31)):
        stop.on_train_batch_end(batch, bad)
    for look in (
        lambda: stop.on_train_batch_end(15, bad),
        lambda: stop.on_train_batch_end(31, bad),
        lambda: stop.on_epoch_end(4, bad),
    ):
        with pytest.raises(FloatingPointError, match=r"^loss, kl must.* epoch 5\."):
            look()
    stop.on_epoch_end(4, {"loss": 1e30})
    stop.on_epoch_end(4, None)


@pytest.mark.parametrize("when", ["train", "test", "predict", ""])
@pytest.mark.parametrize("end", ["begin", "end"])
def test_each_hook_of_a_batch_is_listened_to(when, end):
    hook = f"on_{when}_batch_{end}".replace("__", "_")
    own = type("Own", (C.Callback,), {hook: lambda self, batch, logs=None: None})
    assert listens_to_batches(own()) == (when != "predict")


def test_the_clock_stands_still_while_it_scores():
    now, reported = [100.0], []

    def score(model):
        now[0] += 10.0  # it takes ten seconds
        return {"score": now[0]}

    clock = Clock([2.0, 5.0, 5.5], score, reported.append, now=lambda: now[0])
    model = gan()
    clock.set_model(model)
    clock.set_params({"steps": 5})
    clock.on_train_begin()
    steps = iter(range(1, 99))

    def batch_ends_at(time):
        now[0] = time
        model.optimizer.iterations.assign(next(steps))
        clock.on_train_batch_end(0)

    batch_ends_at(101.9)
    assert clock.points == []
    batch_ends_at(102.04)  # the first mark; it is 112.04 when the score is there
    first = {"seconds": 2.0, "steps": 2, "epochs": 0.4, "score": 112.04}
    assert clock.points == [first] and not model.stop_training
    batch_ends_at(114.9)  # 4.9 seconds of training
    assert len(clock.points) == 1
    batch_ends_at(115.7)  # 5.7: two marks at once, and the end
    assert clock.points[1] == {
        "seconds": 5.7,
        "steps": 4,
        "epochs": 0.8,
        "score": pytest.approx(125.7),
    }
    assert reported == clock.points and model.stop_training
    batch_ends_at(200.0)
    assert len(clock.points) == 2
