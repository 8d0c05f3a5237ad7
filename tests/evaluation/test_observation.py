import pytest
import torch

from queryseg.data.protocol import Protocol
from queryseg.evaluation.evaluator import evaluate
from queryseg.evaluation.observation import Observation
from queryseg.inference.score_strips import window_boxes


class Witness:
    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def __call__(self, observation: Observation) -> None:
        self.seen.append(observation)


def test_every_image_is_seen_once_with_its_label_on_the_canvas(model, pictures) -> None:
    dataset, witness, calls = pictures(), Witness(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    found = evaluate(model, dataset, Protocol(), observer=witness)
    assert len(witness.seen) == len(calls) == 5, "no second forward pass"
    assert torch.equal(found.confusion, evaluate(model, dataset, Protocol()).confusion)
    for index, observation in enumerate(witness.seen):
        label_map = dataset[index].label_map
        height, width = label_map.shape
        assert observation.size == (height, width)
        assert observation.label_maps.shape == (1, *model.canvas(height, width))
        assert torch.equal(observation.label_maps[0, :height, :width], label_map)
        assert (observation.label_maps[0, height:] == 255).all()
        assert (observation.label_maps[0, :, width:] == 255).all()
    assert any(o.label_maps.shape[1:] != o.size for o in witness.seen), "some image must need padding"
    assert not [hook for hook in model._forward_hooks.values() if "observed" in hook.__qualname__]


def test_windows_are_seen_with_their_part_of_the_label(model, pictures) -> None:
    dataset, witness = pictures(2), Witness()
    evaluate(model, dataset, Protocol(window=16, stride=10), observer=witness)
    views = iter(view for o in witness.seen for view in o.label_maps)
    for index in range(2):
        label_map = dataset[index].label_map
        for top, left, bottom, right in window_boxes(*label_map.shape, 16, 10):
            assert torch.equal(next(views)[:16, :16], label_map[top:bottom, left:right])
    assert next(views, None) is None


def test_a_resized_image_is_seen_with_a_resized_label(model, pictures) -> None:
    witness = Witness()
    evaluate(model, pictures(1), Protocol(short_side=48), observer=witness)
    label_map = pictures(1)[0].label_map
    assert witness.seen[0].size == (48, 80)
    assert torch.equal(witness.seen[0].label_maps[0, :48:2, :80:2], label_map)


@pytest.mark.parametrize(("number", "seen"), [(None, 5), (2, 2), (9, 5), (0, 0)])
def test_only_so_many_images_are_observed(model, pictures, number, seen) -> None:
    witness = Witness()
    assert evaluate(model, pictures(), Protocol(), observer=witness, num_observed=number).num_images == 5
    assert len(witness.seen) == seen


def test_an_error_of_the_observer_leaves_no_hook_behind(model, pictures) -> None:
    def refuse(observation: Observation) -> None:
        raise RuntimeError("enough")

    before = len(model._forward_hooks)
    with pytest.raises(RuntimeError, match="enough"):
        evaluate(model, pictures(1), Protocol(), observer=refuse)
    assert len(model._forward_hooks) == before
