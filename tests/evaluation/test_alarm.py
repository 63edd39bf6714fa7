"""The alarm's block: a detector that knows earns 1, one that does not earns a half."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from worldsim.evaluation import block_alarm
from worldsim.evaluation.footage import Footage, Library, load_library
from worldsim.tokenizer.student import FeaturesConfig

if TYPE_CHECKING:
    from worldsim.world import World

SIZE = (48, 64)
Doubt = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def library(root: Any) -> Library:
    """The recorded fixture, at a small size."""
    folder = root / "tests" / "data" / "doom-hall"
    return load_library(folder, SIZE, max_frames=600, log=lambda text: None)


class Judge:
    """A world that says of each pair what `doubt` says."""

    name = "judge"
    config = SimpleNamespace(features=FeaturesConfig(phi="any", size=8, cosine=0.9, alarm=0.5))

    def __init__(self, doubt: Any) -> None:
        self.doubt = doubt


def grade(library: Library, doubt: Any) -> dict[str, Any]:
    world = cast("World", Judge(doubt))
    return cast(dict[str, Any], block_alarm.grade(world, library, lambda text: None))


def test_a_detector_that_knows_the_real_frames(library: Library) -> None:
    real = {f.tobytes() for footage in library.footage for f in footage.frames}

    def doubt(before: Any, after: Any) -> Doubt:
        wrong = np.array([f.tobytes() not in real for f in after], dtype=np.float64)
        return np.stack([wrong, 0 * wrong], axis=1)

    report = grade(library, doubt)

    assert report["detector"]["false_alarms"]["value"] == 0
    for kind in ("patch_noise", "block_shuffle", "vanished"):
        assert report["detector"][f"auroc_{kind}"]["value"] == 1
        assert report["detector"][f"caught_{kind}"]["value"] == 1
        assert report["bound"][f"auroc_{kind}"]["value"] == 0.5  # it says the same of everything
    assert report["detector"]["auroc_cut"]["value"] == 0.5  # a cut shows a real frame


def test_one_that_always_rings_is_found_out(library: Library) -> None:
    report = grade(library, lambda before, after: np.ones((len(after), 2)))

    assert report["detector"]["false_alarms"]["value"] == 1000
    assert report["detector"]["auroc_cut"]["value"] == 0.5


def test_a_world_without_features_says_so(library: Library) -> None:
    world = SimpleNamespace(name="old", config=SimpleNamespace(features=None))

    report = block_alarm.grade(cast("World", world), library, lambda text: None)

    assert report["value"] is None and "no features" in str(report["why"])


def test_vanished_objects_were_there_and_could_be_seen(library: Library) -> None:
    footage = library.footage[0]
    boxes = block_alarm.visible_boxes(footage, SIZE)
    assert len(boxes) == len(footage.frames) and any(boxes)
    ticks = np.array([t for t in range(1, len(boxes)) if boxes[t]][:40])
    torch.manual_seed(0)

    before, after = block_alarm.tampered(footage, ticks, boxes, torch.zeros(3, *SIZE))["vanished"]

    assert before.shape == after.shape and before.dtype == after.dtype == np.uint8
    by_before = {footage.frames[t - 1].tobytes(): t for t in ticks}
    for was, shown in zip(before, after, strict=True):
        real = footage.frames[by_before[was.tobytes()]]
        changed = (shown != real).any(axis=-1)
        y, x = np.nonzero(changed)
        tick = by_before[was.tobytes()]
        assert any(
            b[0] <= y.min() and y.max() < b[0] + b[2] and b[1] <= x.min() and x.max() < b[1] + b[3]
            for b in boxes[tick]
        )


def test_plain_videos_have_no_objects_to_vanish() -> None:
    frames = np.zeros((5, *SIZE, 3), dtype=np.uint8)
    none = np.zeros(5, dtype=np.bool_)
    plain = Footage(
        path=cast(Any, None),
        index=0,
        frames=frames,
        controls=None,
        resets=none,
        deaths=none,
        header={},
    )

    assert block_alarm.visible_boxes(plain, SIZE) == [[]] * 5


def test_the_area_under_the_curve() -> None:
    real = np.array([0.0, 1.0, 2.0, 3.0])

    assert block_alarm.auroc(np.array([4.0]), real).tolist() == [1.0]
    assert block_alarm.auroc(np.array([-1.0]), real).tolist() == [0.0]
    assert block_alarm.auroc(np.array([1.0]), real).tolist() == [0.375]
