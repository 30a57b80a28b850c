"""Spoken digits: made-up recordings in a folder, and the published set."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest

from genai_utils.data import speech

HERE = Path(os.environ.get("GENAI_DATA_DIR", "nowhere")) / "fsdd"
TONE = np.sin(2 * np.pi * 440 * np.arange(800) / 8000)


def write(path, sound, channels=1, width=2, rate=8000):
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(np.rint(32767 * sound).astype("<i2").tobytes())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recordings").mkdir()
    for name in ("7_theo_10", "7_theo_4", "0_george_5", "7_jackson_4"):
        write(tmp_path / "recordings" / f"{name}.wav", 0.5 * TONE)
    return tmp_path


def test_recordings_are_read_and_ordered(folder):
    found = speech.recordings(folder)
    names = [(r.digit, speech.SPEAKERS[r.speaker], r.index) for r in found]
    assert names == [
        (0, "george", 5),
        (7, "jackson", 4),
        (7, "theo", 4),
        (7, "theo", 10),
    ]
    assert [r.is_test for r in found] == [False, True, True, False]
    assert np.allclose(found[0].sound, 0.5 * TONE, atol=1e-4)
    assert found[0].sound.dtype == "float32"


def test_a_sound_of_another_form_is_refused(tmp_path):
    path = tmp_path / "x.wav"
    for form in ({"channels": 2}, {"width": 1}, {"rate": 16_000}):
        write(path, TONE, **form)
        with pytest.raises(ValueError, match=r"1 channel, 16 bits.*Received.*x\.wav"):
            speech.read_wav(path)


@pytest.mark.parametrize("name", ["7_nobody_1", "seven_theo_1", "7_theo", "7_theo_x"])
def test_a_name_that_says_nothing_is_refused(folder, name):
    write(folder / "recordings" / f"{name}.wav", TONE)
    with pytest.raises(ValueError, match=rf"names like.*Received: {name}\.wav"):
        speech.recordings(folder)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recordings/\*\.wav. Received"):
        speech.recordings(tmp_path)


def test_silence_is_cut_off():
    sound = np.concatenate([1e-4 * TONE, TONE, 0 * TONE[:400], TONE, 1e-4 * TONE])
    found = speech.trim(sound)
    assert abs(len(found) - 2000) <= 80  # the pause in the middle stays
    assert np.allclose(found[:800], TONE)
    assert len(speech.trim(sound, decibels=90)) == len(sound)
    assert (speech.trim(np.zeros(100)) == 0).all()
    assert len(speech.trim(TONE[:50])) == 50
    with pytest.raises(ValueError, match="`decibels` must be a finite number above 0"):
        speech.trim(sound, decibels=0)


@pytest.mark.skipif(not HERE.is_dir(), reason="fsdd is not in $GENAI_DATA_DIR")
def test_published_set():
    found = speech.recordings()
    assert len(found) == 2500 and sum(r.is_test for r in found) == 250
    label = [5 * r.digit + r.speaker for r in found]
    assert np.bincount(label).tolist() == [50] * 50
    lengths = np.array([len(r.sound) for r in found]) / speech.RATE
    assert lengths.min() > 0.13 and lengths.max() < 2.3
    assert all(np.abs(r.sound).max() <= 1 for r in found)
