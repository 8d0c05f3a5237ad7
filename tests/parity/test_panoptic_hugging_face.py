"""Panoptic and instance readout equal Hugging Face's Mask2Former image processor on random outputs.

Its panoptic readout deviates from the published one, which ours follows, in three ways that the tests keep apart:
- It multiplies masks by scores before it compares them with the mask threshold: equal only for scores of 1, or without
  thresholds.
- A segment keeps all pixels that it wins, also those outside its own mask.
- After a merged segment of stuff, the counter of ids goes back, so that later segments take ids that exist.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.readouts import Mixture
from queryseg.readouts.segment_assembly import enlarger, panoptic_segments
from queryseg.types import Prediction

transformers = pytest.importorskip("transformers")

SIDE = (384, 384)  # to which Hugging Face resizes all masks
Q, K = 12, 5
THINGS = frozenset({2, 3, 4})


def outputs(seed: int, sharpness: float) -> SimpleNamespace:
    """Class logits (1, Q, K + 1) and smooth mask logits (1, Q, 384, 384), each mask with a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(1, Q, 6, 8, generator=generator) * 2 - 6
    for query in range(Q):
        top, left = 2 * (query // 4), 2 * (query % 4)
        low[0, query, top : top + 2, left : left + 2] += 9
    low[0, 1] = low[0, 0] - 0.5  # loses every pixel to the first
    return SimpleNamespace(
        class_queries_logits=torch.randn(1, Q, K + 1, generator=generator) * sharpness,
        masks_queries_logits=F.interpolate(low, SIDE, mode="bicubic"),
    )


def prediction(found: SimpleNamespace) -> Prediction:
    logits, masks = found.class_queries_logits, found.masks_queries_logits
    empty = torch.zeros(1, Q, 1)
    return Prediction(logits, logits.softmax(-1)[..., :-1], masks, empty, None, empty)


def processor() -> object:
    return transformers.Mask2FormerImageProcessor()


def same_partition(ours: Tensor, theirs: Tensor) -> bool:
    """Equal up to the ids' values."""
    pairs = torch.stack([ours.flatten().long(), theirs.flatten().long()]).unique(dim=1)
    return pairs.shape[1] == len(ours.unique()) == len(theirs.unique())


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_with_certain_classes(seed: int) -> None:
    """Scores of exactly 1: the same segments, classes and order; pixels outside a segment's own mask are nobody's."""
    found = outputs(seed, 1)
    best = found.class_queries_logits.argmax(-1)
    best[0, :2] = 0
    found.class_queries_logits = 400.0 * F.one_hot(best, K + 1)
    theirs = processor().post_process_panoptic_segmentation(  # type: ignore[attr-defined]
        found, threshold=0.8, overlap_mask_area_threshold=0.8, label_ids_to_fuse=set()
    )[0]
    everything = frozenset(range(K))  # nothing is merged
    ours = Mixture().panoptic(prediction(found), SIDE, SIDE, everything)[0]
    assert ours.labels.tolist() == [segment["label_id"] for segment in theirs["segments_info"]]
    assert 2 <= len(ours.labels) < Q
    claimed = (found.masks_queries_logits[0][best[0] < K] >= 0).any(0)
    assert torch.equal(ours.segment_map[claimed], theirs["segmentation"][claimed])
    assert (ours.segment_map[~claimed] == 0).all()

    merged = Mixture().panoptic(prediction(found), SIDE, SIDE, THINGS)[0]
    assert torch.equal(merged.maps(THINGS)[0], ours.maps(everything)[0])  # merging changes no class
    stuff = [label for label in merged.labels.tolist() if label not in THINGS]
    assert len(stuff) == len(set(stuff))


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_argmax_of_scores_and_masks(seed: int) -> None:
    """Scores of every size, no mask or overlap threshold: the same winner at every pixel, the same scores."""
    found = outputs(seed, 2)
    theirs = processor().post_process_panoptic_segmentation(  # type: ignore[attr-defined]
        found, threshold=0.4, mask_threshold=1e-30, overlap_mask_area_threshold=0.0, label_ids_to_fuse=set()
    )[0]
    read = prediction(found)
    offered = Mixture().candidates(read)
    taken = offered.confidence[0] > 0.4
    winner = (offered.scores[0, taken, None, None] * read.mask_logits[0, taken].sigmoid()).argmax(0)
    assert same_partition(winner, theirs["segmentation"])
    ours = panoptic_segments(
        read.mask_logits[0, taken],
        offered.scores[0, taken],
        offered.labels[0, taken],
        frozenset(range(K)),
        0.0,
        enlarger(SIDE, SIDE),
        SIDE,
    )
    by_id = {segment["id"]: (segment["label_id"], segment["score"]) for segment in theirs["segments_info"]}
    inside = ours.segment_map > 0
    assert 2 <= len(ours.labels) <= len(by_id)
    assert inside.float().mean() > 0.3
    for place, (label, score) in enumerate(zip(ours.labels.tolist(), ours.scores.tolist(), strict=True), 1):
        (theirs_id,) = theirs["segmentation"][ours.segment_map == place].unique().tolist()
        assert by_id[theirs_id] == (label, pytest.approx(score, abs=1e-6))


@pytest.mark.parametrize("seed", range(6))
def test_instances(seed: int) -> None:
    """The same masks, classes and scores; Hugging Face leaves stuff to the caller, so every class is a thing here."""
    found = outputs(seed, 3)
    theirs = processor().post_process_instance_segmentation(  # type: ignore[attr-defined]
        found, threshold=0.5, return_binary_maps=True
    )[0]
    everything = frozenset(range(K))
    ours = Mixture().instances(prediction(found), SIDE, SIDE, everything)[0]
    assert ours.masks is not None
    order = sorted(range(len(theirs["segments_info"])), key=lambda i: -theirs["segments_info"][i]["score"])
    infos = [theirs["segments_info"][i] for i in order]
    assert len(infos) >= 2
    assert ours.labels.tolist() == [info["label_id"] for info in infos]
    assert ours.scores.tolist() == pytest.approx([info["score"] for info in infos], abs=2e-6)
    assert torch.equal(ours.masks, theirs["segmentation"][order].bool())
