"""Scores as sequences of tokens, and back.

A score is told from left to right. At every moment at which something happens:

    bar16           a bar of 16 sixteenths begins here      (or: at6  six sixteenths into the bar)
    fermata         the notes that follow are held, and end a line
    S72 A67 T-      the soprano begins to sing pitch 72, the alto 67, the tenor falls silent

A voice sings on until its next token, so a held note costs nothing, and a context of 256 tokens sees about eleven
bars. Voices are named S A T B from the top (and E F G ... where a MIDI file has more).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .scores import Note, Score, chorale_files, midi_files, read_chorale, read_midi

VOICES = "SATBEFGH"
START, END = "start", "end"


def encode(score: Score) -> list[str]:
    """The score's tokens."""
    starting: dict[int, list[Note]] = {}
    ending: dict[int, set[int]] = {}
    for note in sorted(score.notes, key=lambda n: (n.start, n.voice)):
        starting.setdefault(note.start, []).append(note)
        ending.setdefault(note.end, set()).add(note.voice)
    bars = {begin: end - begin for begin, end in zip(score.bars, score.bars[1:]) if end > begin}
    last, bar = max(ending), score.bars[0]
    tokens = [START]
    for now in sorted(t for t in {*bars, *starting, *ending} if t < last):
        bar = now if now in bars else bar
        moment = [f"bar{bars[now]}" if now in bars else f"at{now - bar}"]
        if now in score.fermatas:
            moment.append("fermata")
        sung = {note.voice for note in starting.get(now, [])}
        silent = ending.get(now, set()) - sung
        moment += [f"{VOICES[n.voice]}{n.pitch}" for n in starting.get(now, [])] + [f"{VOICES[v]}-" for v in sorted(silent)]
        tokens += moment
    return [*tokens, END]


def decode(tokens: list[str], name: str = "continuation") -> Score:
    """The score that tokens tell; a token out of place, as a model may write it, is passed over."""
    score = Score(name, [], [], set())
    sounding: dict[int, tuple[int, int]] = {}  # voice -> (start, pitch)
    now = bar = length = 0

    def release(voice: int) -> None:
        if voice in sounding:
            start, pitch = sounding.pop(voice)
            if now > start:
                score.notes.append(Note(start, now, voice, pitch))

    for token in tokens:
        if token == END:
            break
        if token.startswith("bar"):
            now = bar = max(now, bar + length)
            length = int(token[3:])
            score.bars.append(bar)
        elif token.startswith("at"):
            now = max(now, bar + int(token[2:]))
        elif token == "fermata":
            score.fermatas.add(now)
        elif token[0] in VOICES:
            voice = VOICES.index(token[0])
            release(voice)
            if token[1:] != "-":
                sounding[voice] = (now, int(token[1:]))
    now = max(now + 4, bar + length)
    for voice in list(sounding):
        release(voice)
    score.bars.append(now)
    return score


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a model knows; a token's number is its place in the list."""

    tokens: tuple[str, ...]

    @classmethod
    def of(cls, pieces: list[list[str]]) -> Vocabulary:
        """Every token of the pieces, and every pitch between the lowest and the highest of each voice."""
        seen = {token for piece in pieces for token in piece}
        sung = [(t[0], int(t[1:])) for t in seen if t[0] in VOICES and t[1:].isdigit()]
        for voice in {voice for voice, _ in sung}:
            pitches = [pitch for v, pitch in sung if v == voice]
            seen |= {f"{voice}{pitch}" for pitch in range(min(pitches), max(pitches) + 1)}
        return cls(tuple(sorted(seen, key=cls._order)))

    @staticmethod
    def _order(token: str) -> tuple[str, int]:
        letters = token.rstrip("0123456789")
        return letters, int(token[len(letters):] or 0)

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def encode(self, tokens: list[str]) -> np.ndarray:
        return np.array([self.numbers[token] for token in tokens], np.int64)

    def decode(self, numbers: list[int]) -> list[str]:
        return [self.tokens[number] for number in numbers]

    def transposed(self, semitones: int) -> np.ndarray:
        """For every token its number after transposition; -1 for a note that leaves its voice's range."""
        moved = []
        for token in self.tokens:
            if token[0] in VOICES and token[1:].isdigit():
                token = f"{token[0]}{int(token[1:]) + semitones}"
            moved.append(self.numbers.get(token, -1))
        return np.array(moved, np.int64)


@dataclass
class Corpus:
    """Pieces of music as token numbers, and the vocabulary of those numbers."""

    names: list[str]
    pieces: list[np.ndarray]
    vocabulary: Vocabulary

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lengths = np.array([len(piece) for piece in self.pieces])
        np.savez_compressed(path, names=np.array(self.names), tokens=np.concatenate(self.pieces).astype(np.int16),
                            lengths=lengths, vocabulary=np.array(self.vocabulary.tokens))

    @classmethod
    def load(cls, path: Path) -> Corpus:
        with np.load(path) as file:
            pieces = np.split(file["tokens"].astype(np.int64), np.cumsum(file["lengths"])[:-1])
            return cls(file["names"].tolist(), pieces, Vocabulary(tuple(file["vocabulary"].tolist())))


def _tokens_of(path: Path) -> tuple[str, list[str]] | None:
    score = read_chorale(path) if path.suffix == ".mxl" else read_midi(path)
    return (score.name, encode(score)) if score else None


def read_corpus(folder: Path | None, cache: Path) -> Corpus:
    """The chorales, or the MIDI files of a folder, as tokens; read from `cache` where that was done before."""
    if cache.exists():
        return Corpus.load(cache)
    files = midi_files(folder) if folder else chorale_files()
    with ProcessPoolExecutor() as pool:
        found = list(tqdm(pool.map(_tokens_of, files, chunksize=8), "reading scores", len(files), unit=" files"))
    pieces = dict(piece for piece in found if piece is not None)
    vocabulary = Vocabulary.of(list(pieces.values()))
    corpus = Corpus(list(pieces), [vocabulary.encode(tokens) for tokens in pieces.values()], vocabulary)
    corpus.save(cache)
    return corpus
