"""Sound as pictures and back: short-time Fourier transform, mel bands, Griffin-Lim."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from genai_utils.checks import check_array, check_positive, check_whole
from genai_utils.music import to_wav

__all__ = [
    "griffin_lim",
    "inverse_mel",
    "istft",
    "lpc",
    "lpc_bits",
    "mel",
    "mel_bands",
    "mu_law",
    "mu_law_inverse",
    "players",
    "stft",
    "stretch",
    "to_picture",
    "to_sounds",
]

_FLOOR = 50.0  # decibels below the loudest value that a picture shows


def mu_law(x: np.ndarray, mu: int = 255) -> np.ndarray:
    r"""Compress samples so that soft ones get finer steps, equation (29.2).

    .. math:: F(x) = \operatorname{sign}(x) \frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}

    Args:
        x: Samples in [-1, 1], any shape.
        mu: Strength, above 0; 255 is that of the telephone.

    Returns:
        float64 in [-1, 1], same shape.

    Reference:
        ITU-T Recommendation G.711 (1988), which approximates this curve by straight
        pieces.
    """
    x = check_array(x, "x", low=-1.0, high=1.0).astype("float64")
    check_positive(mu, "mu")
    return np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)


def mu_law_inverse(y: np.ndarray, mu: int = 255) -> np.ndarray:
    """Undo :func:`mu_law`.

    Args:
        y: Compressed samples in [-1, 1], any shape.
        mu: As in :func:`mu_law`.

    Returns:
        float64 in [-1, 1], same shape.
    """
    y = check_array(y, "y", low=-1.0, high=1.0).astype("float64")
    check_positive(mu, "mu")
    return np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu


def stft(x: np.ndarray, window: int = 256, hop: int = 64) -> np.ndarray:
    r"""Return the short-time Fourier transform of sounds, equation (29.4).

    .. math:: X_{m,k} = \sum_n w_n\, x_{mH + n - N/2}\, e^{-2\pi i k n / N}

    The sound is continued by zeros, so that frame m is centred at sample m H.

    Args:
        x: Samples, shape ``(..., T)``.
        window: Length N of a frame, even; the window w is that of Hann.
        hop: Step H between frames, at most half a window.

    Returns:
        complex128, shape ``(..., T // hop + 1, window // 2 + 1)``.

    Reference:
        Allen and Rabiner (1977).
    """
    x = check_array(x, "x").astype("float64")
    w = _hann(window, hop)
    around = [(0, 0)] * (x.ndim - 1) + [(window // 2, window // 2)]
    padded = np.pad(x, around)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)
    return np.fft.rfft(frames[..., ::hop, :] * w)


def istft(
    spectra: np.ndarray, length: int | None = None, window: int = 256, hop: int = 64
) -> np.ndarray:
    r"""Return the sound whose transform is nearest to given spectra, equation (29.8).

    .. math:: x_n = \frac{\sum_m w_{n-mH}\, y_{m,n-mH}}{\sum_m w_{n-mH}^2}

    with :math:`y_m` the inverse transform of frame m.  It undoes :func:`stft`.

    Args:
        spectra: Shape ``(..., frames, window // 2 + 1)``.
        length: Samples wanted; ``None`` for ``(frames - 1) * hop``.
        window: As in :func:`stft`.
        hop: As in :func:`stft`.

    Returns:
        float64, shape ``(..., length)``.

    Reference:
        Griffin and Lim (1984), equation 6.
    """
    spectra = _spectra(spectra, window)
    w, (*lead, count, _) = _hann(window, hop), spectra.shape
    frames = np.fft.irfft(spectra, window) * w
    total = np.zeros((*lead, (count - 1) * hop + window))
    weight = np.zeros(total.shape[-1])
    for m in range(count):
        span = slice(m * hop, m * hop + window)
        total[..., span] += frames[..., m, :]
        weight[span] += w**2
    half, length = window // 2, (count - 1) * hop if length is None else length
    found = (total / np.maximum(weight, 1e-9))[..., half : half + length]
    gap = [(0, 0)] * len(lead) + [(0, max(0, length - found.shape[-1]))]
    return np.pad(found, gap)


def _hann(window: int, hop: int) -> np.ndarray:
    """The periodic window of Hann."""
    window, hop = check_whole(window, "window", 2), check_whole(hop, "hop")
    if window % 2 or hop > window // 2:
        raise ValueError(
            "`window` must be even and `hop` at most half of it. Received: window "
            f"{window}, hop {hop}. With wider steps some samples are not seen."
        )
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def _spectra(spectra: np.ndarray, window: int) -> np.ndarray:
    spectra = np.asarray(spectra)
    if spectra.ndim < 2 or spectra.shape[-1] != window // 2 + 1:
        raise ValueError(
            f"`spectra` must have shape (..., frames, {window // 2 + 1}) with window "
            f"{window}. Received: shape {spectra.shape}. Transpose it, or pass the "
            "window that made it."
        )
    return spectra


def griffin_lim(
    magnitude: np.ndarray,
    iterations: int = 40,
    window: int = 256,
    hop: int = 64,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Find sounds with given magnitudes, starting from random phases, equation (29.8).

    In turn: go to the sound, come back, keep the phase, put the magnitude in again.

    Args:
        magnitude: At least 0, shape ``(..., frames, window // 2 + 1)``.
        iterations: How often; 0 for one way there and back.
        window: As in :func:`stft`.
        hop: As in :func:`stft`.
        seed: Seed of the phases.

    Returns:
        The sounds, ``(..., (frames - 1) * hop)``, and the spectral inconsistency
        (29.7) before each iteration and at the end, ``(iterations + 1, ...)``.

    Reference:
        Griffin and Lim (1984), section III.
    """
    magnitude = check_array(_spectra(magnitude, window), "magnitude", low=0.0)
    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, magnitude.shape)
    spectra, errors = magnitude * np.exp(1j * angles), []
    norm = np.maximum((magnitude**2).sum((-2, -1)), 1e-12)
    for _ in range(check_whole(iterations + 1, "iterations")):
        sound = istft(spectra, None, window, hop)
        found = stft(sound, window, hop)
        size = np.abs(found)
        errors.append(np.sqrt(((size - magnitude) ** 2).sum((-2, -1)) / norm))
        spectra = magnitude * found / np.maximum(size, 1e-12)
    return sound, np.array(errors)


def mel(frequency: np.ndarray) -> np.ndarray:
    r"""Return the mel scale of a frequency, equation (29.5).

    .. math:: m(f) = 2595 \log_{10}(1 + f / 700)

    Args:
        frequency: Hertz, at least 0, any shape.

    Returns:
        Same shape; about 1000 at 1000 Hz.

    Reference:
        O'Shaughnessy (1987), Speech Communication: Human and Machine.
    """
    frequency = check_array(frequency, "frequency", low=0.0)
    return 2595.0 * np.log10(1.0 + frequency / 700.0)


def mel_bands(bands: int = 40, window: int = 256, rate: int = 8000) -> np.ndarray:
    """Return triangles that gather the bins of a spectrum into mel bands.

    Their tips are equally far apart on the mel scale.  Each adds to 1, so that a band
    holds a mean; a triangle narrower than a bin takes the two bins around its tip.

    Args:
        bands: How many.
        window: As in :func:`stft`.
        rate: Samples per second.

    Returns:
        Weights, shape ``(bands, window // 2 + 1)``.
    """
    bands, window = check_whole(bands, "bands"), check_whole(window, "window", 2)
    top = mel(np.array(check_positive(rate, "rate") / 2))
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(window // 2 + 1) * rate / window
    low, tip, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    low, high = (
        np.minimum(low, tip - rate / window),
        np.maximum(high, tip + rate / window),
    )
    rise, fall = (bins - low) / (tip - low), (high - bins) / (high - tip)
    weights = np.maximum(0, np.minimum(rise, fall))
    return weights / weights.sum(axis=1, keepdims=True)


def inverse_mel(
    values: np.ndarray, bands: np.ndarray, iterations: int = 50
) -> np.ndarray:
    """Guess a magnitude spectrum, at least 0, from its mel bands.

    Multiplicative steps lower the squared error and keep the spectrum positive.

    Args:
        values: Means of bands, at least 0, shape ``(..., bands)``.
        bands: As from :func:`mel_bands`, shape ``(bands, bins)``.
        iterations: Number of steps.

    Returns:
        Shape ``(..., bins)``.

    Reference:
        Lee and Seung (2001), theorem 1, with the bands held fixed.
    """
    bands = check_array(bands, "bands", ndim=2, low=0.0)
    values = check_array(values, "values", low=0.0)
    wanted = values @ bands
    spectrum = np.maximum(values @ (bands / np.maximum(bands.sum(0), 1e-9)), 1e-9)
    for _ in range(check_whole(iterations, "iterations")):
        spectrum = spectrum * wanted / np.maximum(spectrum @ bands.T @ bands, 1e-12)
    return spectrum


def stretch(frames: np.ndarray, count: int) -> np.ndarray:
    """Bring a row of frames to another length, by straight lines between neighbours.

    Args:
        frames: Shape ``(n, ...)``, at least two frames.
        count: How many are wanted.

    Returns:
        Shape ``(count, ...)``; the first and the last frame stay.
    """
    frames = check_array(frames, "frames")
    if len(frames) < 2:
        raise ValueError(
            f"`frames` must have at least two frames. Received: {len(frames)}. Take a "
            "longer sound."
        )
    at = np.linspace(0, len(frames) - 1, check_whole(count, "count"))
    low = np.minimum(at.astype(int), len(frames) - 2)
    part = (at - low).reshape(-1, *(1,) * (frames.ndim - 1))
    return frames[low] * (1 - part) + frames[low + 1] * part


def to_picture(
    sound: np.ndarray,
    frames: int = 32,
    bands: int = 40,
    window: int = 256,
    hop: int = 64,
    rate: int = 8000,
) -> tuple[np.ndarray, int]:
    """Return a log-mel spectrogram of a fixed size, equation (29.6), and its length.

    Args:
        sound: Samples, shape ``(T,)``, not silent.
        frames: Frames of the picture.
        bands: Its mel bands.
        window: As in :func:`stft`.
        hop: As in :func:`stft`.
        rate: Samples per second.

    Returns:
        The picture in [-1, 1], shape ``(frames, bands)``, where 1 is the loudest value
        and -1 is 50 decibels below; and the frames that it had before it was stretched.
    """
    spectra = np.abs(stft(check_array(sound, "sound", ndim=1), window, hop))
    values = spectra @ mel_bands(bands, window, rate).T
    decibels = 20 * np.log10(values / max(values.max(), 1e-12) + 1e-9)
    picture = np.clip(decibels / _FLOOR, -1, 0) * 2 + 1
    return stretch(picture, frames), len(spectra)


def to_sounds(
    pictures: np.ndarray,
    lengths: Sequence[int],
    iterations: int = 16,
    window: int = 256,
    hop: int = 64,
    rate: int = 8000,
    seed: int = 0,
) -> list[np.ndarray]:
    """Turn pictures back into sounds, by :func:`inverse_mel` and :func:`griffin_lim`.

    Args:
        pictures: As from :func:`to_picture`, shape ``(n, frames, bands)``.
        lengths: Frames of each sound, at least 2.
        iterations: As in :func:`griffin_lim`; 0 keeps random phases.
        window: As in :func:`stft`.
        hop: As in :func:`stft`.
        rate: Samples per second.
        seed: Seed of the phases.

    Returns:
        A list of sounds of root mean square 0.1, ``(lengths[i] - 1) * hop`` samples.
    """
    pictures = check_array(pictures, "pictures", ndim=3, low=-1.0, high=1.0)
    bands = mel_bands(pictures.shape[2], window, rate)
    sounds: list[Any] = [None] * len(pictures)
    order = np.argsort(lengths)
    for some in np.array_split(order, -(-len(order) // 50)):  # those of like length
        magnitude = np.zeros(
            (len(some), max(lengths[i] for i in some), window // 2 + 1)
        )
        for place, i in zip(magnitude, some, strict=True):
            decibels = (stretch(pictures[i], lengths[i]) - 1) / 2 * _FLOOR
            values = 10 ** (decibels / 20) * (decibels > 1 - _FLOOR)
            place[: lengths[i]] = inverse_mel(values, bands, 20)
        found, _ = griffin_lim(magnitude, iterations, window, hop, seed)
        for sound, i in zip(found, some, strict=True):
            cut = sound[: (lengths[i] - 1) * hop]
            sounds[i] = 0.1 * cut / max(cut.std(), 1e-9)
    return sounds


def lpc(past: np.ndarray, order: int = 8) -> tuple[np.ndarray, float]:
    r"""Fit a linear prediction to samples, equation (29.12).

    .. math:: \hat x_n = \sum_j a_j x_{n-j}

    Args:
        past: Samples ``(T,)``, more than ``order``.
        order: Number of weights.

    Returns:
        The weights, that of the oldest sample first, and the mean size of the errors,
        at least 0.002.

    Reference:
        Makhoul (1975), the covariance method; a small ridge keeps silence solvable.
    """
    past = check_array(past, "past", ndim=1)
    rows = np.lib.stride_tricks.sliding_window_view(past, order + 1)
    x, y = rows[:, :-1], rows[:, -1]
    gram = x.T @ x
    ridge = (1e-4 * np.trace(gram) / order + 1e-6) * np.eye(order)
    a = np.linalg.solve(gram + ridge, x.T @ y)
    return a, max(float(np.abs(y - x @ a).mean()), 2e-3)


def lpc_bits(
    codes: np.ndarray, levels: int, order: int = 8, memory: int = 256, step: int = 16
) -> np.ndarray:
    """Return the bits that linear prediction needs for each mu-law code.

    The weights are refitted to the last ``memory`` samples every ``step`` samples.  A
    Laplace distribution around the guess, as wide as the errors then, gives each level
    its probability, with 0.001 of a uniform one.

    Args:
        codes: Whole numbers from 0 to ``levels - 1``, shape ``(T,)``: equal steps of
            :func:`mu_law` from -1 to 1.
        levels: Number of steps.
        order: As in :func:`lpc`.
        memory: Samples that the weights are fitted to.
        step: Samples for which they are kept.

    Returns:
        Bits, shape ``(T,)``.
    """
    codes = check_array(codes, "codes", ndim=1, low=0, high=levels - 1)
    edges = mu_law_inverse(np.linspace(-1, 1, levels + 1))
    x = mu_law_inverse((codes + 0.5) / levels * 2 - 1)
    x, bits = np.pad(x, (memory + order, 0)), []
    for k in range(0, len(codes), step):
        a, size = lpc(x[k : k + memory + order], order)
        now = codes[k : k + step]
        at = np.arange(k + memory, k + memory + len(now))
        guess = x[at[:, None] + np.arange(order)] @ a
        low, high = (_laplace((edges[now + i] - guess) / size) for i in (0, 1))
        bits.append(-np.log2(0.999 * (high - low) + 0.001 / levels))
    return np.concatenate(bits)


def _laplace(x: np.ndarray) -> np.ndarray:
    """Distribution function of a Laplace distribution of mean size 1."""
    tail = 0.5 * np.exp(-np.abs(x))
    return np.where(x < 0, tail, 1 - tail)


def players(sounds: Mapping[str, np.ndarray], rate: int = 8000) -> str:
    """Return HTML with a player for each sound; the samples are inside the page.

    Args:
        sounds: Name to samples, one axis each; each is scaled to a peak of 0.95.
        rate: Samples per second.

    Returns:
        The HTML, for ``IPython.display.HTML``.
    """
    parts = []
    for name, sound in sounds.items():
        sound = check_array(sound, "sound", ndim=1).astype("float64")
        wav = to_wav(0.95 * sound / max(np.abs(sound).max(), 1e-9), rate)
        source = "data:audio/wav;base64," + base64.b64encode(wav).decode()
        parts.append(
            f"<figure style='display:inline-block;margin:4px 8px'><figcaption>"
            f"{escape(name)}</figcaption><audio controls aria-label='{escape(name)}' "
            f"style='width:210px' src='{source}'></audio></figure>"
        )
    return "".join(parts)
