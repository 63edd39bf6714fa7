"""The Frechet distance between clips, on features that are named: pooled tokenizer latents.

A clip of 16 frames is described by the mean over its places and frames of each latent channel, and
by the mean absolute change of each from frame to frame, which a frozen clip has none of. Between
two sets of clips, taken as Gaussians:

    d = |m1 - m2|^2 + trace(S1 + S2 - 2 (S1 S2)^(1/2))

It is biased upwards for few clips, so that it means something only beside the distance of real
clips from other real ones, at the same counts. It is not the FVD of the papers, whose features come
from a network for human actions.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worldsim.evaluation.intervals import CONFIDENCE, Graded

CLIP = 16  # frames
SPLITS = 10  # subsamples without replacement, of which the interval is made
SHARE = 0.8  # of the clips in each
Floats = npt.NDArray[np.float64]


def describe(latents: npt.NDArray[np.float32]) -> Floats:
    """Latents (T, P, C) of whole clips in a row -> features of each clip, (T // CLIP, 2 * C)."""
    clips = latents[: len(latents) // CLIP * CLIP].astype(np.float64)
    clips = clips.reshape(-1, CLIP, *latents.shape[1:])
    change = np.abs(np.diff(clips, axis=1))
    return np.concatenate([clips.mean(axis=(1, 2)), change.mean(axis=(1, 2))], axis=1)


def frechet(a: Floats, b: Floats) -> float:
    """Between two sets of features, (N, F) and (M, F)."""
    first, second = _covariance(a), _covariance(b)
    root = _root(first)
    mixed = np.linalg.eigvalsh(root @ second @ root)
    between = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    spread = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.maximum(mixed, 0)).sum()
    return float(between + spread)


def graded(a: Floats, b: Floats) -> Graded:
    """Their distance, with the range of SPLITS subsamples of both; n is the smaller count."""
    rng = np.random.default_rng(0)
    draws = [frechet(_part(a, rng), _part(b, rng)) for _ in range(SPLITS)]
    low, high = np.percentile(draws, CONFIDENCE)
    # smaller sets lie farther apart: the range is moved to where all of them lie
    value = frechet(a, b)
    middle = float(np.mean(draws))
    lo, hi = value + low - middle, value + high - middle
    return {"value": value, "lo": float(lo), "hi": float(hi), "n": min(len(a), len(b))}


def same_count(sets: Sequence[Floats], seed: int = 0) -> list[Floats]:
    """As many clips of each, drawn without replacement."""
    rng = np.random.default_rng(seed)
    count = min(map(len, sets))
    return [found[np.sort(rng.permutation(len(found))[:count])] for found in sets]


def _part(features: Floats, rng: np.random.Generator) -> Floats:
    kept = max(2, int(SHARE * len(features)))
    return features[rng.permutation(len(features))[:kept]]


def _covariance(features: Floats) -> Floats:
    return np.atleast_2d(np.cov(features, rowvar=False))


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root
