"""Music: an FFT hears 440 Hz, a reader parses MIDI, rules on phrases made by hand."""

from __future__ import annotations

import json
import os
import struct
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from genai_utils import music
from genai_utils.data import fetch
from genai_utils.data import music as chorales

HERE = Path(os.environ.get("GENAI_DATA_DIR", "nowhere")) / "jsb_chorales"
LIMITS = np.array([[60, 81], [52, 74], [46, 69], [36, 66]])
CHORD = np.array([[72, 67, 64, 48]])  # C major
RNG = np.random.default_rng(0)


def random_piece(steps=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(LIMITS[:, 0], LIMITS[:, 1] + 1, (steps, 4)).astype("int16")


# Sound


def test_the_names_of_some_frequencies():
    assert music.frequency(69) == 440
    assert np.isclose(music.frequency(60), 261.6256, atol=1e-4)  # middle C
    assert np.isclose(music.frequency(81) / music.frequency(69), 2)


@pytest.mark.parametrize("pitch", [48, 60, 69, 81])
def test_an_fft_hears_the_pitch(pitch):
    rate = 8000
    sound = music.synthesise(np.full((5, 1), pitch), 0.4, rate)
    assert sound.shape == (16000,) and np.abs(sound).max() <= 1
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    loudest = spectrum.argmax() * rate / len(sound)
    assert abs(loudest - music.frequency(pitch)) < 1  # two seconds: half a hertz a bin


def test_silence_is_silent_and_a_held_note_is_not_struck_again():
    assert (music.synthesise(np.full((2, 3), -1)) == 0).all()
    held = music.synthesise(np.array([[69], [69]]), 0.4)
    struck = music.synthesise(np.array([[69], [69 + 12], [69]]), 0.4)
    middle = slice(3200 - 40, 3200 + 40)  # 10 ms around the bar line
    assert np.abs(held[middle]).max() > 0.3 > np.abs(struck[middle]).max()


def test_no_partial_is_heard_beyond_the_limit_of_the_rate():
    low = music.synthesise(np.array([[107]]), 0.4, 8000)  # 3951 Hz
    spectrum = np.abs(np.fft.rfft(low))
    frequencies = np.fft.rfftfreq(len(low), 1 / 8000)
    assert spectrum[frequencies < 3500].max() < spectrum.max() / 50


def test_wav_is_read_back_by_the_standard_library():
    sound = np.sin(np.linspace(0, 50, 4000))
    data = music.to_wav(sound, 8000)
    assert len(data) == 44 + 4000
    with wave.open(BytesIO(data)) as file:
        assert file.getparams()[:4] == (1, 1, 8000, 4000)
        back = np.frombuffer(file.readframes(4000), "uint8")
    assert np.abs((back - 128.0) / 127 - sound).max() < 0.005


# MIDI


def read_midi(data):
    """Notes (start, end, channel, pitch) in ticks, written from the specification."""
    kind, size, form, tracks, division = struct.unpack(">4sIHHH", data[:14])
    assert (kind, size, form, tracks) == (b"MThd", 6, 0, 1)
    assert data[14:18] == b"MTrk"
    assert int.from_bytes(data[18:22], "big") == len(data) - 22
    at, now, open_notes, notes = 22, 0, {}, []
    while True:
        delta = 0
        while True:
            byte = data[at]
            at += 1
            delta = delta * 128 + byte % 128
            if byte < 128:
                break
        now += delta
        status = data[at]
        if status == 0xFF:
            what, length = data[at + 1], data[at + 2]
            at += 3 + length
            if what == 0x2F:
                assert at == len(data) and not open_notes
                return division, sorted(notes)
            continue
        key = status & 15, data[at + 1]
        if status & 0xF0 == 0x90:
            assert key not in open_notes
            open_notes[key] = now
        else:
            assert status & 0xF0 == 0x80
            notes.append((open_notes.pop(key), now, *key))
        at += 3


def test_bytes_of_one_note():
    assert music.midi_bytes(np.array([[60]]), 120).hex(" ") == (
        "4d 54 68 64 00 00 00 06 00 00 00 01 01 e0 "  # MThd: format 0, 480 ticks
        "4d 54 72 6b 00 00 00 14 "  # MTrk: 20 bytes
        "00 ff 51 03 07 a1 20 "  # half a second for a quarter note
        "00 90 3c 50 "  # middle C on
        "83 60 80 3c 50 "  # 480 ticks later off
        "00 ff 2f 00"
    )


@pytest.mark.parametrize("seed", range(3))
def test_midi_is_parsed_back(seed, tmp_path):
    piece = np.repeat(random_piece(12, seed), 2, axis=0)  # all notes are held
    piece[RNG.random(piece.shape) < 0.2] = -1
    path = tmp_path / "piece.mid"
    assert music.write_midi(path, piece) == path.stat().st_size
    division, notes = read_midi(path.read_bytes())
    back = np.full_like(piece, -1)
    for start, end, channel, pitch in notes:
        back[start // division : end // division, channel] = pitch
    assert (back == piece).all()


def test_a_long_wait_takes_two_bytes_and_more():
    piece = np.full((40, 1), -1)
    piece[[0, -1]] = 60
    _, notes = read_midi(music.midi_bytes(piece))
    assert [n[0] for n in notes] == [0, 39 * 480]


def test_too_many_voices_are_refused():
    with pytest.raises(ValueError, match=r"at most 16 voices.*Received"):
        music.midi_bytes(np.full((4, 20), 60))


# Rules


def test_parallel_fifths_and_octaves():
    fifths = np.array([[67, 60], [69, 62], [69, 62], [67, 60]])
    found = music.violations(fifths, LIMITS[:2])["parallels"]
    assert found.tolist() == [True, False, True]  # a repeated fifth is none
    octaves = np.array([[72, 60], [74, 62]])
    assert music.violations(octaves, LIMITS[:2])["parallels"].all()


@pytest.mark.parametrize(
    "piece",
    [
        [[67, 60], [62, 67]],  # contrary motion
        [[67, 60], [71, 62]],  # a sixth
        [[67, 60], [67, 62]],  # one voice stays
        [[67, 60], [69, 57]],  # fifth to octave
        [[67, -1], [69, 62]],  # one voice was silent
        [[64, 60], [65, 61]],  # parallel thirds
    ],
)
def test_what_is_no_parallel(piece):
    assert not music.violations(np.array(piece), LIMITS[:2])["parallels"].any()


def test_crossing_range_and_leaps():
    piece = np.concatenate([CHORD] * 4)
    piece[1, 1:3] = 62, 65  # the tenor above the alto
    piece[2, 0] = 84
    found = music.violations(piece, LIMITS)
    assert found["crossing"].tolist() == [False, True, False, False]
    assert found["range"].tolist() == [False, False, True, False]
    assert found["leap"].tolist() == [False, True, True]  # the soprano up, and down
    piece[3, 3] = 36  # the bass may leap
    assert not music.violations(piece[[0, 3]], LIMITS)["leap"].any()


@pytest.mark.parametrize(
    "chord, dissonant",
    [
        ([72, 67, 64, 48], False),
        ([72, 67, 63, 48], False),  # minor
        ([72, 67, 60, 48], False),  # the third is missing
        ([72, -1, -1, -1], False),
        ([-1, -1, -1, -1], False),
        ([71, 65, 62, 55], True),  # a dominant seventh
        ([71, 65, 62, 50], True),  # a diminished triad
        ([72, 61, 60, 48], True),
    ],
)
def test_which_chords_are_triads(chord, dissonant):
    found = music.violations(np.array([chord]), LIMITS)["dissonance"]
    assert found.tolist() == [dissonant]


def test_rules_are_the_same_in_all_keys():
    piece = random_piece()
    moved = music.violations(piece + 3, LIMITS + 3)
    for rule, found in music.violations(piece, LIMITS).items():
        assert (found == moved[rule]).all(), rule


def test_rates_and_errors():
    pieces = [random_piece(30, seed) for seed in range(5)]
    found = music.rates(pieces, LIMITS)
    assert tuple(found) == music.RULES
    share, error = found["crossing"]
    count = sum(music.violations(p, LIMITS)["crossing"].sum() for p in pieces)
    assert share == count / 150
    assert np.isclose(error, np.sqrt(share * (1 - share) / 150))


# Copies


def brute_force(piece, library):
    best = 0
    for other in library:
        for i in range(len(piece)):
            for j in range(len(other)):
                n = 0
                while i + n < len(piece) and j + n < len(other):
                    ours, theirs = piece[i : i + n + 1], other[j : j + n + 1]
                    if len(np.unique(ours - theirs)) > 1:
                        break
                    n += 1
                best = max(best, n)
    return best


def test_longest_shared_against_brute_force():
    rng = np.random.default_rng(1)
    pieces = [rng.integers(60, 62, (12, 2)) for _ in range(4)]
    library = [rng.integers(60, 62, (15, 2)) for _ in range(3)]
    found = music.longest_shared(pieces, library)
    assert found.tolist() == [brute_force(p, library) for p in pieces]
    assert found.max() > 3


def test_a_copy_in_another_key_is_found():
    piece = random_piece()
    new = random_piece(seed=1)
    new[4:11] = piece[8:15] + 2
    assert music.longest_shared([new, piece], [piece]).tolist() == [7, 20]
    piece[3, 2] = -1
    assert music.longest_shared([chorales.transpose(piece, 5)], [piece]) == [20]


def test_drawing():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    piece = random_piece(8)
    piece[3, 1] = -1
    music.draw(ax, piece, title="mine", legend=True)
    assert len(ax.lines) == 4
    assert len({line.get_linestyle() for line in ax.lines}) == 4
    assert np.isnan(ax.lines[1].get_ydata()[3])
    assert ax.get_title(loc="left") == "mine"


# Data


def test_tokens_and_pitches_are_inverse():
    piece = random_piece()
    piece[2, 1] = -1
    tokens = chorales.to_tokens(piece)
    assert tokens[2, 1] == chorales.REST and tokens.max() < chorales.START
    assert (chorales.to_pitches(tokens) == piece).all()
    assert chorales.to_pitches(np.array([chorales.START])) == [-1]
    with pytest.raises(ValueError, match=r"`piece` must hold pitches.*Received"):
        chorales.to_tokens(piece + 40)


def test_a_piece_moves_within_the_ranges():
    pieces = [random_piece(50, seed) for seed in range(4)]
    limits = chorales.ranges(pieces)
    assert (limits == [[60, 81], [52, 74], [46, 69], [36, 66]]).all()
    narrow = np.array([[70, 60, 55, 45], [71, -1, 56, 46]], "int16")
    possible = chorales.shifts(narrow, limits)
    assert possible.tolist() == list(range(-6, 6))
    low = np.array([[62, 60, 55, 45]], "int16")
    assert chorales.shifts(low, limits).tolist() == list(range(-2, 6))
    for s in possible:
        moved = chorales.transpose(narrow, s)
        assert (moved[1, 1] == -1) and (np.delete(moved - narrow, 5) == s).all()
        assert not music.violations(moved, limits)["range"].any()


def test_windows_are_read_voice_by_voice():
    piece = random_piece(10)
    rows = chorales.voice_windows(piece, 4, lead=2)
    assert rows.shape == (9, 16)
    assert (rows[0, :8] == chorales.START).all()
    assert (chorales.to_pitches(rows[3]).reshape(4, 4) == piece[1:5]).all()
    with pytest.raises(ValueError, match=r"at least 14 steps\. Received: 10"):
        chorales.voice_windows(piece, 16, lead=2)


def test_floats_are_refused():
    with pytest.raises(TypeError, match=r"`piece` must hold whole numbers"):
        chorales.transpose(random_piece() / 2, 1)


def test_loader_reads_a_made_up_file(monkeypatch, tmp_path):
    made_up = {split: [random_piece(8, 3).tolist()] for split in chorales.SPLITS}
    path = tmp_path / "Jsb16thSeparated.json"
    path.write_text(json.dumps(made_up), "ascii")
    monkeypatch.setattr(chorales, "fetch", lambda name, file: path)
    (piece,) = chorales.chorales("valid")
    assert (piece == random_piece(8, 3)[::4]).all() and piece.dtype == "int16"
    assert len(chorales.chorales("test", every=1)[0]) == 8
    with pytest.raises(ValueError, match="split"):
        chorales.chorales("tests")


def test_the_registered_set_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("GENAI_DATA_DIR", str(tmp_path))
    (tmp_path / "jsb_chorales").mkdir()
    for name in fetch.registry()["jsb_chorales"]["files"]:
        (tmp_path / "jsb_chorales" / name).write_text("not it")
    with pytest.raises(ValueError, match="SHA-256"):
        chorales.chorales()


@pytest.mark.skipif(not HERE.is_dir(), reason=f"jsb_chorales is not in {HERE.parent}")
def test_published_chorales():
    found = {split: chorales.chorales(split) for split in chorales.SPLITS}
    assert [len(pieces) for pieces in found.values()] == [229, 76, 77]
    steps = np.concatenate([p for pieces in found.values() for p in pieces])
    assert steps.shape == (13807 + 4602 + 4725, 4)
    assert steps.max() == 81 and steps[steps >= 0].min() == 36
    limits = chorales.ranges(found["train"])
    assert limits.tolist() == [[60, 81], [52, 74], [46, 69], [36, 66]]
    bach = music.rates(found["test"], limits)
    assert bach["parallels"][0] < 0.03 and bach["crossing"][0] < 0.03
    assert (chorales.to_pitches(chorales.to_tokens(steps)) == steps).all()
