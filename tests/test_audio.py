"""Sound: SciPy's transform, exact ways back, and values worked out by hand."""

from __future__ import annotations

import base64
import io
import re
import wave

import numpy as np
import pytest
from scipy import signal

from genai_utils import audio

RNG = np.random.default_rng(0)
NOISE = RNG.standard_normal(4000)


# Companding


def test_mu_law_by_hand():
    assert np.isclose(audio.mu_law(1 / 255), 1 / 8)  # ln 2 / ln 256
    assert np.isclose(audio.mu_law(-15 / 255), -1 / 2)  # ln 16 / ln 256
    assert audio.mu_law(np.array([-1.0, 0.0, 1.0])).tolist() == [-1, 0, 1]
    assert np.isclose(audio.mu_law(1.0, mu=7), 1) and np.isclose(
        audio.mu_law(1 / 7, mu=7), 1 / 3
    )


def test_mu_law_and_its_inverse():
    x = np.linspace(-1, 1, 1001)
    assert np.allclose(audio.mu_law_inverse(audio.mu_law(x)), x)
    assert np.allclose(audio.mu_law(audio.mu_law_inverse(x, 63), 63), x)
    with pytest.raises(ValueError, match=r"`x` must lie in \[-1.0, 1.0\].*Received"):
        audio.mu_law(np.array([1.5]))
    with pytest.raises(ValueError, match="`mu` must be a finite number above 0"):
        audio.mu_law(x, mu=0)


# The short-time Fourier transform


@pytest.mark.parametrize(("window", "hop", "length"), [(256, 64, 4000), (64, 32, 1024)])
def test_stft_is_that_of_scipy(window, hop, length):
    x, w = NOISE[:length], signal.get_window("hann", window)
    theirs = signal.ShortTimeFFT(w, hop, 8000, phase_shift=None)
    ours = audio.stft(x, window, hop)
    assert np.allclose(ours, theirs.stft(x, 0, length // hop + 1).T)
    assert ours.shape == (length // hop + 1, window // 2 + 1)


def test_stft_is_scipys_older_function_up_to_its_scale():
    *_, theirs = signal.stft(NOISE[:3968], nperseg=256, noverlap=192, padded=False)
    ours = audio.stft(NOISE[:3968])
    assert np.allclose(ours, theirs.T * 128)  # the window of Hann adds to 128


@pytest.mark.parametrize("hop", [32, 64, 100, 128])
def test_the_way_back_is_exact(hop):
    spectra = audio.stft(NOISE, 256, hop)
    n = (len(spectra) - 1) * hop
    assert np.allclose(audio.istft(spectra, None, 256, hop), NOISE[:n])
    longer = audio.istft(spectra, n + 300, 256, hop)
    assert len(longer) == n + 300 and np.allclose(longer[:n], NOISE[:n])


def test_istft_is_the_nearest_sound():
    """Random spectra: the gradient of the squared distance is zero there."""
    spectra = audio.stft(NOISE[:512]) + RNG.standard_normal((9, 129))
    x = audio.istft(spectra, 512)

    def distance(x):  # each frequency but the first and the last counts twice
        gap = np.abs(audio.stft(x) - spectra) ** 2
        return 2 * gap.sum() - gap[:, [0, -1]].sum()

    for _ in range(5):
        step = 1e-3 * RNG.standard_normal(512)
        step[-64:] = 0  # the last hop is cut off by the frames that follow
        slope = (distance(x + step) - distance(x - step)) / np.linalg.norm(step)
        assert abs(slope) < 1e-6 * distance(x)


def test_many_sounds_at_once():
    both = np.stack([NOISE[:1000], NOISE[1000:2000]])
    spectra = audio.stft(both)
    assert np.allclose(spectra[1], audio.stft(both[1]))
    assert np.allclose(audio.istft(spectra)[1], audio.istft(spectra[1]))
    sounds, errors = audio.griffin_lim(np.abs(spectra), 3)
    assert sounds.shape == (2, 960) and errors.shape == (4, 2)


@pytest.mark.parametrize(("window", "hop"), [(255, 64), (256, 200)])
def test_frames_that_leave_gaps_are_refused(window, hop):
    with pytest.raises(ValueError, match=r"`window` must be even.*Received"):
        audio.stft(NOISE, window, hop)
    with pytest.raises(ValueError, match=r"`spectra` must have shape.*Received"):
        audio.istft(np.zeros((4, 100)))


# Griffin-Lim


def test_griffin_lim_never_gets_worse_and_finds_a_tone():
    t = np.arange(4096) / 8000
    target = np.abs(audio.stft(np.sin(2 * np.pi * 440 * t)))
    sound, errors = audio.griffin_lim(target, 60)
    assert (np.diff(errors) < 1e-9).all() and errors[-1] < 0.3 * errors[0]
    loudest = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax()
    assert abs(loudest * 8000 / len(sound) - 440) < 4


def test_true_phases_are_a_fixed_point():
    spectra = audio.stft(NOISE[:2048])
    again = audio.stft(audio.istft(spectra))
    assert np.allclose(np.abs(again), np.abs(spectra))


# Mel


def test_mel_scale():
    assert abs(audio.mel(1000.0) - 1000) < 0.1 and audio.mel(0.0) == 0
    assert np.isclose(audio.mel(700.0), 2595 * np.log10(2))


def test_mel_bands_are_means_of_neighbours():
    bands = audio.mel_bands(40)
    assert bands.shape == (40, 129) and (bands >= 0).all()
    assert np.allclose(bands.sum(1), 1)
    tips = bands.argmax(1) * 8000 / 256
    assert (np.diff(tips) >= 0).all() and (bands > 0).sum(1)[-1] > 3
    centres = (bands * np.arange(129)).sum(1) * 8000 / 256
    assert np.diff(centres)[-1] > 3 * np.diff(centres)[0]  # wider and wider


def test_inverse_mel_keeps_the_bands():
    bands = audio.mel_bands(40)
    spectrum = np.abs(audio.stft(NOISE))
    wanted = spectrum @ bands.T
    found = audio.inverse_mel(wanted, bands, 100)
    assert (found >= 0).all() and found.shape == spectrum.shape
    assert np.abs(found @ bands.T - wanted).max() < 0.05 * wanted.max()
    worse = audio.inverse_mel(wanted, bands, 1)
    gaps = [np.abs(f @ bands.T - wanted).sum() for f in (worse, found)]
    assert gaps[1] < 0.5 * gaps[0]


# Pictures


def test_stretch_is_linear_interpolation():
    frames = RNG.standard_normal((9, 3))
    found = audio.stretch(frames, 21)
    at = np.linspace(0, 8, 21)
    theirs = np.stack([np.interp(at, np.arange(9), f) for f in frames.T], axis=1)
    assert np.allclose(found, theirs) and (audio.stretch(frames, 9) == frames).all()
    with pytest.raises(ValueError, match=r"at least two frames\. Received: 1"):
        audio.stretch(frames[:1], 4)


def test_a_picture_does_not_know_the_loudness():
    picture, length = audio.to_picture(NOISE)
    softer, _ = audio.to_picture(0.01 * NOISE)
    assert picture.shape == (32, 40) and length == 63
    assert np.allclose(picture, softer, atol=1e-4)
    assert picture.max() <= 1 and picture.min() >= -1


def test_a_tone_survives_the_way_there_and_back():
    t = np.arange(4096) / 8000
    picture, length = audio.to_picture(np.sin(2 * np.pi * 1000 * t) + 1e-4 * NOISE[0])
    high, low = audio.to_sounds(np.stack([picture, picture]), [length, 20])
    assert len(high) == 4096 and len(low) == 19 * 64 and np.isclose(high.std(), 0.1)
    loudest = np.abs(np.fft.rfft(high)).argmax() * 8000 / len(high)
    assert abs(loudest - 1000) < 60  # half a band
    rough = audio.to_sounds(picture[None], [length], iterations=0)[0]
    assert rough.shape == high.shape


# Linear prediction


def test_lpc_finds_the_recursion_of_a_sine():
    a, size = audio.lpc(np.sin(0.3 * np.arange(400)), 2)
    assert np.allclose(a, [-1, 2 * np.cos(0.3)], atol=0.01) and size == 2e-3


def test_lpc_finds_the_weights_of_an_autoregression():
    x = np.zeros(20_000)
    for n in range(2, len(x)):
        x[n] = 1.5 * x[n - 1] - 0.8 * x[n - 2] + 0.1 * RNG.standard_normal()
    a, size = audio.lpc(x, 2)
    assert np.allclose(a, [-0.8, 1.5], atol=0.02)
    assert np.isclose(size, 0.1 * np.sqrt(2 / np.pi), rtol=0.03)


def test_bits_add_to_one_and_see_only_the_past():
    codes = RNG.integers(64, size=100)
    tries = np.stack([np.append(codes, k) for k in range(64)])
    last = np.array([audio.lpc_bits(row, 64) for row in tries])
    assert np.isclose((2.0 ** -last[:, -1]).sum(), 1, atol=0.01)
    assert np.ptp(last[:, :-1], axis=0).max() == 0
    assert audio.lpc_bits(np.full(500, 32), 64)[-1] < 3  # silence costs little
    assert audio.lpc_bits(codes, 64).mean() > 5.5


# Players


def test_players_hold_the_sound():
    html = audio.players({"a <b>": NOISE[:800], "two": NOISE[:80]})
    assert html.count("<audio controls") == 2 and "a &lt;b&gt;" in html
    data = re.findall(r"base64,([^']+)'", html)[0]
    with wave.open(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 800)
        heard = np.frombuffer(file.readframes(800), "uint8") / 127 - 128 / 127
    assert np.corrcoef(heard, NOISE[:800])[0, 1] > 0.999
    assert 0.9 < np.abs(heard).max() < 1
