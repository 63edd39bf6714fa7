"""Block `objects`: figures of finders that are perfect, that mix things up, or that stand still."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from worldsim.evaluation import tracks
from worldsim.evaluation.block_objects import CLIP, Clips, true_objects
from worldsim.evaluation.footage import Library, load_library
from worldsim.evaluation.object_rows import Clusters, Grid
from worldsim.evaluation.tracks import Truth
from worldsim.world import World

ONE = np.array([[0.3, 0.5, 0.1, 0.2]])
TWO = np.array([[0.3, 0.5, 0.1, 0.2], [0.7, 0.5, 0.2, 0.2]])
IDS = np.array([4, 9])


@pytest.fixture(scope="module")
def library(root: Path) -> Library:
    folder = root / "tests" / "data" / "doom-hall"
    return load_library(folder, (96, 128), max_frames=10_000, log=lambda text: None)


class Perfect:
    """Knows the truth; `shuffled`, it changes the order of its rows in every frame."""

    def __init__(self, clips: Clips, *, shuffled: bool = False) -> None:
        self._windows, self._truth = iter(clips.windows), clips.truth
        self._shuffled = shuffled

    def find(self, frames: np.ndarray, actions: np.ndarray) -> np.ndarray:
        window = next(self._windows)
        found = np.full((1, window.context + CLIP, 40, 4), np.nan)
        for tick in range(1, CLIP + 1):
            truth = self._truth(window, tick)
            shift = tick if self._shuffled else 0
            found[0, window.context + tick - 1, (truth.ids + 7 * shift) % 40] = truth.boxes
        return found


@pytest.fixture(scope="module")
def clips(library: Library) -> Clips:
    windows = library.windows(context=4, horizon=CLIP, count=2, seed=0)
    truths = {f.index: true_objects(f) for f in library.footage}
    return Clips(World.load("doom-hall"), library, windows, truths)


def test_truth_holds_what_is_large_enough_and_lies_in_the_frame(clips: Clips) -> None:
    boxes = np.concatenate([clips.truth(w, t).boxes for w in clips.windows for t in range(CLIP)])

    assert len(boxes) > 0
    assert (boxes[:, 2:].prod(axis=1) * 160 * 120).min() >= 63.9
    assert ((boxes[:, :2] >= 0) & (boxes[:, :2] <= 1)).all()


def test_a_perfect_finder_gets_perfect_figures_and_a_shuffled_one_loses_identities(
    clips: Clips,
) -> None:
    perfect = clips.grade(Perfect(clips))
    shuffled = clips.grade(Perfect(clips, shuffled=True))

    for key in ("mbo", "idf1_64", "position_r2"):
        assert perfect[key]["value"] == pytest.approx(1.0)
    assert shuffled["mbo"]["value"] == pytest.approx(1.0)
    assert float(shuffled["idf1_64"]["value"] or 0) < 0.3


def test_boxes_that_stand_still_and_clusters_are_far_from_perfect(clips: Clips) -> None:
    for finder in (Grid(8), Clusters(8)):
        report = clips.grade(finder)

        assert 0 <= float(report["mbo"]["value"] or 0) < 0.5
        assert float(report["idf1_64"]["value"] or 0) < 0.5


def test_overlap_of_boxes() -> None:
    moved = ONE + np.array([0.05, 0, 0, 0])

    assert tracks.iou(ONE, ONE)[0, 0] == pytest.approx(1)
    assert tracks.iou(ONE, moved)[0, 0] == pytest.approx(1 / 3)
    assert tracks.iou(ONE, np.full((1, 4), np.nan))[0, 0] == 0


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2), (1, 5)])
def test_assignment_is_the_cheapest_of_all(shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(shape[0]).normal(size=shape)
    rows, columns = shape

    pairs = tracks.assign(cost)

    wide = cost if rows <= columns else cost.T
    orders = itertools.permutations(range(wide.shape[1]), wide.shape[0])
    best = min(sum(wide[i, j] for i, j in enumerate(order)) for order in orders)
    assert len(pairs) == min(shape)
    assert sum(cost[i, j] for i, j in pairs) == pytest.approx(best)


def test_positions_of_what_nobody_found_count_as_the_mean() -> None:
    truth, mean = Truth(IDS, TWO), np.array([0.5, 0.5])
    nobody = np.full((3, 4), np.nan)

    assert tracks.position_errors(truth, TWO[::-1], mean)[0] == pytest.approx(0)
    errors, around = tracks.position_errors(truth, nobody, mean)
    assert errors == around == pytest.approx(2 * (0.2 * 4 / 3) ** 2)


def test_identities_that_are_exchanged_half_way_count_half() -> None:
    truths = [Truth(IDS, TWO)] * 8
    kept = [TWO] * 8
    exchanged = [TWO] * 4 + [TWO[::-1]] * 4

    assert tracks.identity_counts(truths, kept) == (32, 32)
    assert tracks.identity_counts(truths, exchanged) == (16, 32)


def test_foreground_ari_of_one_slot_for_everything_is_nothing() -> None:
    truth = Truth(IDS, TWO)

    assert tracks.foreground_ari(truth, TWO) == pytest.approx(1)
    assert tracks.foreground_ari(truth, np.array([[0.5, 0.5, 1.0, 1.0]])) == pytest.approx(0)
    assert np.isnan(tracks.foreground_ari(Truth(IDS[:1], ONE), ONE))
