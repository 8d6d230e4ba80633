"""Scores as lists of notes, read from music21's chorales (MusicXML) or from MIDI files, and written back to MIDI.

Times and durations are in steps of a sixteenth note.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

STEPS_PER_QUARTER = 4
SEMITONE = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


class Note(NamedTuple):
    start: int
    end: int
    voice: int  # 0 is the highest: soprano, alto, tenor, bass
    pitch: int  # as in MIDI: 60 is middle C


@dataclass
class Score:
    name: str
    notes: list[Note]
    bars: list[int]  # where each bar begins, and last where the last one ends
    fermatas: set[int]  # the times of held notes, which end the lines of a chorale


# ---- the chorales: compressed MusicXML, a format that the standard library reads in three seconds ---------------------


def chorale_files() -> list[Path]:
    """The compressed MusicXML files of Bach's works in the corpus that the package music21 carries."""
    package = find_spec("music21")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The chorales are in the package music21: pip install music21 (or give --data FOLDER of MIDI files).")
    return sorted(Path(package.submodule_search_locations[0], "corpus", "bach").glob("*.mxl"))


def read_chorale(path: Path) -> Score | None:
    """The chorale in a compressed MusicXML file; None where the work is not in four parts with fermatas."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("xml") and not n.startswith("META-INF"))
        root = ElementTree.fromstring(archive.read(name))
    parts = root.findall("part")
    if len(parts) != 4:
        return None
    score = Score(path.stem, [], [], set())
    for voice, part in enumerate(parts):
        bars = _read_part(part, voice, score)
        score.bars = max(score.bars, bars, key=len)
    return score if score.fermatas and score.notes else None


def _read_part(part: ElementTree.Element, voice: int, score: Score) -> list[int]:
    """Add the part's notes and fermatas to the score, and return where its bars begin."""
    divisions, now, bars = 1.0, 0.0, []  # divisions: time units in a quarter note
    tied: dict[int, float] = {}  # pitch -> where a note that goes on began
    for measure in part.findall("measure"):
        bars.append(_step(now))
        for element in measure:
            if element.tag == "attributes":
                divisions = float(element.findtext("divisions", str(divisions)))
            elif element.tag in ("forward", "backup"):
                now += (1 if element.tag == "forward" else -1) * float(element.findtext("duration", "0")) / divisions
            elif element.tag == "note" and element.find("grace") is None and element.find("chord") is None:
                end = now + float(element.findtext("duration", "0")) / divisions
                if element.find("notations/fermata") is not None:
                    score.fermatas.add(_step(now))
                if element.find("pitch") is not None:
                    pitch = _pitch(element)
                    start = tied.pop(pitch, now)
                    if any(tie.get("type") == "start" for tie in element.findall("tie")):
                        tied[pitch] = start
                    elif _step(end) > _step(start):
                        score.notes.append(Note(_step(start), _step(end), voice, pitch))
                now = end
    return [*bars, _step(now)]


def _pitch(note: ElementTree.Element) -> int:
    octave, alter = int(note.findtext("pitch/octave", "4")), float(note.findtext("pitch/alter", "0"))
    return 12 * (octave + 1) + SEMITONE[note.findtext("pitch/step", "C")] + round(alter)


def _step(quarters: float) -> int:
    return int(quarters * STEPS_PER_QUARTER + 0.5)


# ---- MIDI -------------------------------------------------------------------------------------------------------------


def midi_files(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi"))
    if not files:
        raise SystemExit(f"--data: expected a folder with MIDI files (.mid, .midi); found none in {folder}")
    return files


def read_midi(path: Path, voices: int = 6) -> Score | None:
    """A MIDI file's notes, each track a voice, or as many voices as it needs where its notes overlap."""
    import mido

    midi = mido.MidiFile(path)
    steps = STEPS_PER_QUARTER / midi.ticks_per_beat
    notes: list[Note] = []
    signatures: dict[int, int] = {}
    lowest_line = 0
    for track in midi.tracks:
        tracked, now, sounding = [], 0, {}
        for message in track:
            now += message.time
            if message.type == "time_signature":
                signatures[round(now * steps)] = max(1, message.numerator * 4 * STEPS_PER_QUARTER // message.denominator)
            elif message.type == "note_on" and message.velocity > 0 and message.channel != 9:  # 9 is percussion
                sounding.setdefault(message.note, now)
            elif message.type in ("note_on", "note_off") and message.note in sounding:
                start = round(sounding.pop(message.note) * steps)
                tracked.append((start, max(start + 1, round(now * steps)), message.note))
        lines = _lines(tracked)
        notes += [Note(start, end, lowest_line + line, pitch) for start, end, pitch, line in lines]
        lowest_line += max((line for *_, line in lines), default=-1) + 1
    notes = [note for note in notes if note.voice < voices]
    if not notes:
        return None
    return Score(path.stem, notes, _bars(signatures, max(note.end for note in notes)), set())


def _lines(notes: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Part overlapping notes (start, end, pitch) into lines without overlap: each goes to the free line nearest in pitch."""
    lines: list[tuple[int, int]] = []  # for each line, where its last note ends, and its pitch
    placed = []
    for start, end, pitch in sorted(notes, key=lambda n: (n[0], -n[2])):
        free = [i for i, (until, _) in enumerate(lines) if until <= start]
        if free:
            line = min(free, key=lambda i: abs(lines[i][1] - pitch))
        else:
            line = len(lines)
            lines.append((0, 0))
        lines[line] = (end, pitch)
        placed.append((start, end, pitch, line))
    return placed


def _bars(signatures: dict[int, int], end: int) -> list[int]:
    bars, length = [0], signatures.get(0, 4 * STEPS_PER_QUARTER)
    while bars[-1] < end:
        changes = [at for at in signatures if at <= bars[-1]]
        length = signatures[max(changes)] if changes else length
        bars.append(bars[-1] + length)
    return bars


def write_midi(score: Score, path: Path, quarters_per_minute: float = 76) -> None:
    """Write the score as a MIDI file, a track to each voice, with the last note before a fermata held a little longer."""
    import mido

    ticks = 480 // STEPS_PER_QUARTER
    midi = mido.MidiFile(ticks_per_beat=480)
    tempo = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_per_minute))])
    midi.tracks.append(tempo)
    now = 0
    for at in sorted(score.fermatas):  # slow down on a fermata, for a quarter note
        for when, speed in ((at, 0.6), (at + STEPS_PER_QUARTER, 1.0)):
            wait = max(0, when * ticks - now)
            tempo.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_per_minute * speed), time=wait))
            now += wait
    for voice in sorted({note.voice for note in score.notes}):
        track = mido.MidiTrack([mido.Message("program_change", channel=voice % 9, program=19)])  # 19: church organ
        midi.tracks.append(track)
        now = 0
        for when, kind, pitch in _events(score.notes, voice):
            track.append(mido.Message(kind, channel=voice % 9, note=pitch, velocity=72, time=when * ticks - now))
            now = when * ticks
    midi.save(path)


def _events(notes: list[Note], voice: int) -> Iterator[tuple[int, str, int]]:
    """(time, "note_on" or "note_off", pitch) of one voice, in order; a note ends before the next begins."""
    own = [note for note in notes if note.voice == voice]
    yield from sorted([(n.end, "note_off", n.pitch) for n in own] + [(n.start, "note_on", n.pitch) for n in own],
                      key=lambda event: (event[0], event[1] == "note_on"))
