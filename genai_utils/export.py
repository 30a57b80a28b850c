"""Take the sampler out of a game: NumPy networks, fewer bits, hashes, a model card.

Nothing here imports Keras.  A file that was written here can be read on a machine that
has only NumPy, and reading it never runs code from the file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_labels, check_positive

__all__ = [
    "BITS",
    "CARD_FIELDS",
    "CardError",
    "LatentSampler",
    "Network",
    "dequantise",
    "load_card",
    "load_network",
    "quantise",
    "read_network",
    "save_card",
    "save_network",
    "sha256",
]

#: Bits of a weight that :func:`save_network` can write.
BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)
#: What a model card must say.
CARD_FIELDS = ("name", "data", "licence", "recipe", "metrics", "limits")
_ACTIVATIONS: dict[str, Callable] = {
    "linear": lambda h: h,
    "relu": lambda h: np.maximum(h, 0.0),
    "tanh": np.tanh,
    "bernoulli": lambda h: np.tanh(0.5 * h),  # a logit's mean, in [-1, 1]
}
_CLOSE = 1e-4  # what a network may differ from Keras' in NumPy, at the most


@dataclass(frozen=True)
class Network:
    """A chain of layers in NumPy, at inference.

    Args:
        steps: What to do, in order: ``{"do": "dense", "activation": "relu"}``, ...
        arrays: ``"0.w"`` is the array ``w`` of step 0, and so on; float32.
        shape: Shape of one input, ``(latent_dim,)``.
        num_classes: Number of classes of a network that takes labels, or ``None``.
        ordered: Whether to add up products in one order.  Then a row's result does not
            depend on the other rows, to the last bit, on any machine; a call takes
            several times as long.  A matrix product of a library adds in an order that
            depends on the size of the batch, and on some processors also on the row's
            place in it.
    """

    steps: tuple[dict, ...]
    arrays: Mapping[str, np.ndarray]
    shape: tuple[int, ...]
    num_classes: int | None = None
    ordered: bool = False

    def __call__(self, z: np.ndarray, labels: Any = None) -> np.ndarray:
        """Return what the network makes of ``z``, float32.

        Args:
            z: Inputs ``(n, *shape)``.
            labels: Classes ``(n,)`` or ``(n, 1)``, which a network with classes needs.
        """
        h = np.asarray(z, "float32")
        for i, step in enumerate(self.steps):
            mine = {n: self.arrays[f"{i}.{n}"] for n in step.get("arrays", ())}
            if step["do"] in _LINEAR:
                times = _ordered_product if self.ordered else np.matmul
                h = _LINEAR[step["do"]](h, step, mine, times)
            else:
                h = _DO[step["do"]](h, step, mine, labels)
            h = _ACTIVATIONS[step.get("activation", "linear")](h)
        return h


def _ordered_product(h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The matrix product, its terms added from the first to the last."""
    out = np.zeros((len(h), w.shape[1]), "float32")
    for i, row in enumerate(w):
        out += h[:, i, None] * row  # one rounding for each product and each sum
    return out


def _dense(h: np.ndarray, step: dict, a: dict, times: Callable) -> np.ndarray:
    return times(h, a["w"]) + a["b"]


def _affine(h: np.ndarray, step: dict, a: dict, labels: Any) -> np.ndarray:
    return h * a["scale"] + a["shift"]


def _leaky(h: np.ndarray, step: dict, a: dict, labels: Any) -> np.ndarray:
    return np.where(h > 0, h, np.float32(step["slope"]) * h)


def _reshape(h: np.ndarray, step: dict, a: dict, labels: Any) -> np.ndarray:
    return h.reshape(len(h), *step["shape"])


def _append(h: np.ndarray, step: dict, a: dict, labels: Any) -> np.ndarray:
    told = a["table"][np.asarray(labels).reshape(-1)]  # (B, K)
    told = told.reshape(len(h), *[1] * (h.ndim - 2), told.shape[-1])
    told = np.broadcast_to(told, (*h.shape[:-1], told.shape[-1]))
    return np.concatenate([h, told], axis=-1)


def _stamp(h: np.ndarray, step: dict, a: dict, times: Callable) -> np.ndarray:
    """Transposed convolution: add shifted copies of the kernel, eq. (11.1)."""
    w, stride = a["w"], step["stride"]  # w: (k, k, channels out, channels in)
    n, height, width, inputs = h.shape
    k, channels = w.shape[0], w.shape[2]
    kernel = w.transpose(3, 0, 1, 2).reshape(inputs, -1)
    prints = times(h.reshape(-1, inputs), kernel)
    prints = prints.reshape(n, height, width, k, k, channels)
    size = [(side - 1) * stride + k for side in (height, width)]
    page = np.zeros((n, *size, channels), "float32")
    for i in range(k):
        for j in range(k):
            rows = slice(i, i + stride * height, stride)
            columns = slice(j, j + stride * width, stride)
            page[:, rows, columns] += prints[:, :, :, i, j]
    cut = (k - stride) // 2
    page = page[:, cut : cut + stride * height, cut : cut + stride * width]
    return page + a["b"]


_LINEAR = {"dense": _dense, "stamp": _stamp}
_DO = {
    "affine": _affine,
    "leaky": _leaky,
    "reshape": _reshape,
    "append": _append,
}
_NEEDS = {  # the settings and the arrays of each step
    "dense": ((), ("w", "b")),
    "stamp": (("stride",), ("w", "b")),
    "affine": ((), ("scale", "shift")),
    "leaky": (("slope",), ()),
    "reshape": (("shape",), ()),
    "append": ((), ("table",)),
}


def read_network(net: Any, final: str = "linear") -> Network:
    """Copy a Keras network into NumPy, and check that both give the same numbers.

    Args:
        net: A ``Sequential``, or a model made by :func:`genai_utils.layers.network`, of
            ``Dense``, ``Conv2DTranspose`` (padding ``"same"``), ``BatchNormalization``,
            ``LeakyReLU``, ``ReLU``, ``Reshape``, ``Flatten``, ``Dropout`` and
            ``AppendClass`` layers, such as a VAE's decoder or a GAN's generator.
        final: An activation to add at the end; ``"bernoulli"`` turns logits into means
            in [-1, 1].

    Returns:
        The network, as it computes at inference.

    Raises:
        ValueError: If a layer is not known here, or the two do not agree.
    """
    steps: list[dict] = []
    arrays: dict[str, np.ndarray] = {}
    for layer in net.layers:
        if (read := _read_layer(layer)) is None:
            continue
        step, mine = read
        arrays |= {f"{len(steps)}.{k}": v.astype("float32") for k, v in mine.items()}
        steps.append({**step, "arrays": list(mine)} if mine else step)
    if final != "linear":
        steps.append({"do": "reshape", "shape": [*net.output_shape[1:]]})
        steps[-1]["activation"] = final
    shapes, labelled = net.input_shape, len(net.inputs) > 1
    shape = tuple(shapes[0][1:] if labelled else shapes[1:])
    classes = next((len(a) for k, a in arrays.items() if k.endswith(".table")), None)
    network = Network(tuple(steps), arrays, shape, classes if labelled else None)
    _check_equal(net, network, final)
    return network


def _read_layer(layer: Any) -> tuple[dict, dict] | None:
    """The step and the arrays of one Keras layer; ``None`` for one without effect."""
    kind = type(layer).__name__
    if kind in ("InputLayer", "Dropout"):
        return None
    if kind in ("Reshape", "Flatten"):
        return {"do": "reshape", "shape": [*layer.output.shape[1:]]}, {}
    if kind in ("LeakyReLU", "ReLU"):
        slope = layer.negative_slope
        return {"do": "leaky", "slope": float(slope or 0.0)}, {}
    weights = layer.get_weights()
    if kind == "BatchNormalization" and len(weights) == 4:
        gamma, beta, mean, variance = weights
        scale = gamma / np.sqrt(variance + layer.epsilon)
        return {"do": "affine"}, {"scale": scale, "shift": beta - mean * scale}
    if kind == "AppendClass":
        return {"do": "append"}, {"table": (weights or [np.eye(layer.num_classes)])[0]}
    return _read_linear(layer, kind, weights)


def _read_linear(layer: Any, kind: str, weights: list) -> tuple[dict, dict]:
    known = {"Dense": "dense", "Conv2DTranspose": "stamp"}
    name = getattr(getattr(layer, "activation", None), "__name__", "none")
    fits = kind == "Dense" or getattr(layer, "padding", "") == "same"
    if kind not in known or name not in _ACTIVATIONS or not fits:
        raise ValueError(
            "`net` must be a chain of dense layers and transposed convolutions, see "
            f"the docstring. Received: layer {layer.name!r}, a {kind} with activation "
            f"{name!r}. Keep this model as `.keras`, or teach `export` the layer."
        )
    w = weights[0]
    outputs = w.shape[-1] if kind == "Dense" else w.shape[2]
    b = weights[1] if len(weights) > 1 else np.zeros(outputs)
    step = {"do": known[kind], "activation": name}
    if kind == "Conv2DTranspose":
        step["stride"] = int(layer.strides[0])
    return step, {"w": w, "b": b}


def _check_equal(net: Any, network: Network, final: str) -> None:
    z = np.random.default_rng(0).standard_normal((4, *network.shape)).astype("float32")
    labels = None
    if network.num_classes is not None:
        labels = np.arange(4, dtype="int32")[:, None] % network.num_classes
    theirs = net.predict(z if labels is None else [z, labels], verbose=0)
    gap = float(np.abs(_ACTIVATIONS[final](theirs) - network(z, labels)).max())
    if not gap < _CLOSE:
        raise ValueError(
            f"`net` must compute the same in NumPy. Received: a gap of {gap:.1e}. "
            "Its layers are not a chain; keep this model as `.keras`."
        )


def quantise(
    w: np.ndarray, bits: int = 8, axis: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    r"""Round weights to a few whole numbers and a scale for each channel, eq. (34.1).

    .. math:: s_j = \frac{\max_i |w_{ij}|}{2^{b-1} - 1}, \qquad
        q_{ij} = \operatorname{round}(w_{ij} / s_j)

    Args:
        w: Weights, any shape.
        bits: :math:`b`, from 2 to 8.
        axis: The axis of the output channels :math:`j`.

    Returns:
        ``(q, scale)``.  ``q`` is int8, shape of ``w``, from ``-(2**(bits-1) - 1)`` to
        ``2**(bits-1) - 1``; ``scale`` is float32 and broadcasts against it.

    Raises:
        ValueError: If ``bits`` is not a whole number from 2 to 8.

    Reference:
        Krishnamoorthi (2018), the symmetric quantiser with a scale for each channel.
    """
    w = check_array(w, "w")
    if isinstance(bits, bool) or bits not in range(2, 9):
        raise ValueError(
            f"`bits` must be a whole number from 2 to 8. Received: {bits!r}. "
            "With 16 bits store `w.astype('float16')`."
        )
    most = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(w.ndim) if i != axis % w.ndim)
    largest = np.abs(w).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / most, 1.0).astype("float32")
    q = np.clip(np.rint(w / scale), -most, most).astype("int8")
    return q, scale


def dequantise(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
    r"""Return the weights :math:`\hat w_{ij} = s_j q_{ij}`, float32, eq. (34.1).

    Args:
        q: As :func:`quantise` returns it.
        scale: Likewise.
    """
    return scale.astype("float32") * q.astype("float32")


def _pack(q: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers from -most to most as a row of bits, eight in a byte."""
    most = 2 ** (bits - 1) - 1
    digits = (q.reshape(-1, 1).astype("int16") + most) >> np.arange(bits) & 1
    return np.packbits(digits.astype("uint8"))


def _unpack(packed: np.ndarray, bits: int, shape: Sequence[int]) -> np.ndarray:
    size = int(np.prod(shape))
    digits = np.unpackbits(packed, count=size * bits).reshape(size, bits)
    numbers = (digits.astype("int16") << np.arange(bits)).sum(axis=1)
    return (numbers - (2 ** (bits - 1) - 1)).astype("int8").reshape(shape)


def save_network(path: Any, network: Network, bits: int = 32) -> Path:
    """Write a network as ``.npz``; the same network gives the same bytes.

    Args:
        path: Where, ending in ``.npz``.
        network: The network.
        bits: Bits of each weight, one of ``BITS``: 32 or 16 as floats, fewer by
            :func:`quantise`.  Biases and the scales of batch normalisation keep 32.

    Returns:
        The path.

    Raises:
        ValueError: If ``bits`` is none of these.
    """
    if bits not in BITS:
        raise ValueError(f"`bits` must be one of {BITS}. Received: {bits!r}. Use 8.")
    stored: dict[str, np.ndarray] = {}
    shapes: dict[str, list[int]] = {}
    for name, a in network.arrays.items():
        if not name.endswith(".w") or bits == 32:
            stored[name] = a.astype("float32")
        elif bits == 16:
            stored[name] = a.astype("float16")
        else:
            q, scale = quantise(a, bits, axis=_channel_axis(a))
            stored[name], shapes[name] = _pack(q, bits), [*a.shape]
            stored[name + ".scale"] = scale
    head = {"steps": list(network.steps), "shape": [*network.shape], "bits": bits}
    head |= {"num_classes": network.num_classes, "shapes": shapes}
    stored["head"] = np.frombuffer(json.dumps(head).encode(), "uint8")
    path = Path(path)
    with path.open("wb") as file:
        np.savez(file, **stored)
    return path


def _channel_axis(w: np.ndarray) -> int:
    return -1 if w.ndim == 2 else 2  # a transposed kernel is (k, k, out, in)


def load_network(path: Any, ordered: bool = False) -> Network:
    """Read a network that :func:`save_network` wrote.  No code in it can run.

    Args:
        path: The ``.npz`` file.
        ordered: As in :class:`Network`.

    Returns:
        The network, its weights float32.

    Raises:
        ValueError: If the file is damaged, holds pickled objects, was not written by
            :func:`save_network`, or has a step that is not known here.
    """
    try:
        content = io.BytesIO(Path(path).read_bytes())
        with np.load(content, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        head = json.loads(stored.pop("head").tobytes())
        arrays = {
            name: _restored(name, a, stored, head)
            for name, a in stored.items()
            if not name.endswith(".scale") or name.count(".") == 1
        }
        steps, shape = tuple(head["steps"]), tuple(head["shape"])
        for i, step in enumerate(steps):
            _check_step(i, step, arrays)
        return Network(steps, arrays, shape, head["num_classes"], ordered)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, NumPy and JSON have many words for "damaged"
        raise ValueError(
            "`path` must be a whole file from `save_network`. Received: "
            f"{Path(path).name} ({error}). Export the model again."
        ) from error


def _check_step(i: int, step: dict, arrays: Mapping[str, np.ndarray]) -> None:
    if step["do"] not in _NEEDS:
        raise ValueError(f"step {i} is an unknown {step['do']!r}")
    activation = step.get("activation", "linear")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"step {i} has the unknown activation {activation!r}")
    settings, names = _NEEDS[step["do"]]
    lost = [s for s in settings if s not in step]
    lost += [n for n in names if n not in step.get("arrays", ())]
    lost += [n for n in step.get("arrays", ()) if f"{i}.{n}" not in arrays]
    if lost:
        raise ValueError(f"step {i}, {step['do']}, lacks {', '.join(lost)}")


def _restored(name: str, a: np.ndarray, stored: dict, head: dict) -> np.ndarray:
    if name not in head["shapes"]:
        return a.astype("float32")
    q = _unpack(a, head["bits"], head["shapes"][name])
    return dequantise(q, stored[name + ".scale"])


@dataclass(frozen=True)
class LatentSampler:
    """A sampler in two halves: draw noise for one request, decode many at once.

    The halves let a service decode several requests in one batch.  Each request draws
    its own noise from its own seed, so what it gets does not depend on its neighbours
    in the batch: bit for bit if ``network`` is a :class:`Network` that is ``ordered``,
    else up to rounding.

    Args:
        network: Maps ``z`` of shape ``(n, latent_dim)``, and with classes labels
            ``(n, 1)``, to samples.
        latent_dim: Number of noise coordinates.
        num_classes: Number of classes, or ``None``.
        rows: Rows of every call of ``network``, filled up with zeros, which suits a
            network that is compiled for each size; ``None`` for all in one call.
    """

    network: Callable[..., np.ndarray]
    latent_dim: int
    num_classes: int | None = None
    rows: int | None = None

    def draw(self, n: int, seed: int = 0, label: int | None = None) -> tuple:
        """Return what one request feeds to the network, ``(z,)`` or ``(z, labels)``.

        It is the noise that ``VAE.sample`` and ``GAN.sample`` draw from that seed.

        Args:
            n: How many samples, at least 1.
            seed: Seed of the noise.
            label: Class of all samples; ``None`` for 0, 1, 2, ... in turn.
        """
        check_positive(n, "n")
        z = np.random.default_rng(seed).standard_normal((n, self.latent_dim))
        labels = check_labels(label, n, self.num_classes, in_turn=True)
        z = z.astype("float32")
        return (z,) if labels is None else (z, labels)

    def decode(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the samples of one or more draws, stacked; one row for each row.

        Args:
            *inputs: Each with the same number of rows.
        """
        if self.rows is None:
            return np.asarray(self.network(*inputs))
        n, parts = len(inputs[0]), []
        for start in range(0, n, self.rows):
            part = [_filled(a[start : start + self.rows], self.rows) for a in inputs]
            parts.append(np.asarray(self.network(*part))[: n - start])
        return np.concatenate(parts)

    def __call__(self, n: int, seed: int = 0, label: int | None = None) -> np.ndarray:
        """Return ``n`` samples, the same ones whenever the seed is the same."""
        return self.decode(*self.draw(n, seed, label))


def _filled(a: np.ndarray, rows: int) -> np.ndarray:
    """Rows of zeros below, up to a fixed number."""
    return np.pad(a, [(0, rows - len(a)), *[(0, 0)] * (a.ndim - 1)])


def sha256(path: Any) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class CardError(ValueError):
    """A ``card.json`` that is no card, or does not list the files that are wanted."""


def save_card(folder: Any, card: Mapping[str, Any], files: Sequence[str]) -> Path:
    """Write ``card.json``: what a model is, and the hashes of the files it is in.

    Args:
        folder: Where the files are.
        card: At least ``CARD_FIELDS``: the model's name, its data and their licence,
            the recipe, metrics (each with ``value`` and ``error``) and limits in words.
        files: Names of files in ``folder``; without any, :func:`load_card` refuses it.

    Returns:
        The path of the card.

    Raises:
        ValueError: If a field is missing, or a metric has no error.

    Reference:
        Mitchell et al. (2019), Model cards for model reporting.
    """
    if lost := [name for name in CARD_FIELDS if not card.get(name)]:
        raise ValueError(
            f"`card` must say {', '.join(CARD_FIELDS)}. Received: nothing about "
            f"{', '.join(lost)}. Fill in what a user has to know."
        )
    for name, found in card["metrics"].items():
        if not {"value", "error"} <= set(found):
            raise ValueError(
                "`card['metrics']` must map each name to `value` and `error`. "
                f"Received: {name!r} with {sorted(found)}. Repeat the measurement "
                "with other seeds, and give the standard deviation."
            )
    folder = Path(folder)
    sizes = {f: {"bytes": (folder / f).stat().st_size} for f in files}
    hashes = {f: {**facts, "sha256": sha256(folder / f)} for f, facts in sizes.items()}
    path = folder / "card.json"
    text = json.dumps({**card, "files": hashes}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")
    return path


def load_card(folder: Any, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Read ``card.json``, and check that the files are those it was written for.

    Args:
        folder: Where the card and its files are.
        needs: Names of files that you will read, which the card must therefore list.

    Returns:
        The card.

    Raises:
        FileNotFoundError: If there is no card, or a file is missing.
        CardError: If the card is none, lists no file or not one of ``needs``, or names
            a file elsewhere.  It is a ``ValueError``.
        ValueError: If a file's SHA-256 is another one.
    """
    folder = Path(folder)
    card = _read_card(folder / "card.json")
    if lost := [name for name in needs if name not in card["files"]]:
        raise CardError(
            f"`card.json` must list each file that is read, with its SHA-256. "
            f"Received: none for {', '.join(lost)}. Export the model again."
        )
    for name, facts in card["files"].items():
        digest = sha256(folder / name)
        if digest != facts["sha256"]:
            raise ValueError(
                f"`{name}` must have the SHA-256 {facts['sha256'][:12]}... of its card."
                f" Received: {digest[:12]}... Get the file again; do not use this one."
            )
    return card


def _read_card(path: Path) -> dict[str, Any]:
    """The card, if it has the form of one."""
    try:
        card = json.loads(path.read_text("utf-8"))
        hashes = [facts["sha256"] + "" for facts in card["files"].values()]
        lost = [name for name in CARD_FIELDS if not card.get(name)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        hashes = lost = []
    if lost or not hashes:
        without = ", ".join(lost) or "a list of files with their SHA-256"
        raise CardError(
            "`card.json` must be a card that `save_card` wrote. Received: one without "
            f"{without}. Export the model again."
        )
    for name in card["files"]:
        if name in (".", "..") or Path(name).name != name:
            raise CardError(
                "`card.json` must name files beside it. Received: "
                f"{name!r}. Do not use this model."
            )
    return card
