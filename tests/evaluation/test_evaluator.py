import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol, ProtocolPreset
from queryseg.errors import InputError
from queryseg.evaluation.evaluator import evaluate, spread
from queryseg.inference.engine import Engine
from queryseg.inference.windows import protocol_labels
from queryseg.types import Sample


class Agreeing(SegmentationDataset):
    """Labels are what the model says."""

    def __init__(self, model, inner) -> None:
        self.model, self.inner, self.name, self.classes = model, inner, inner.name, inner.classes

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Sample:
        sample = self.inner[index]
        with torch.no_grad():
            return Sample(sample.image, Engine(self.model)(sample.image[None])[0], sample.name)


def test_a_model_agrees_with_itself(model, pictures):
    found = evaluate(model, Agreeing(model, pictures()), Protocol())
    assert found.mean_iou == found.pixel_accuracy == 1
    assert found.mean_iou_interval == (1, 1)
    assert (found.confusion.sum(1) > 0).sum() > 1, "the model must tell classes apart for these tests to mean anything"


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(short_side=16), Protocol(window=24, stride=16)], ids=str)
def test_counts_are_pooled_over_images_at_label_size(model, pictures, protocol):
    dataset = pictures()
    naive = torch.zeros(4, 4, dtype=torch.int64)
    for index in range(len(dataset)):
        sample = dataset[index]
        with torch.no_grad():
            size = tuple(sample.label_map.shape)
            labels = protocol_labels(Engine(model).eval(), sample.image, protocol, size)
        for label in range(4):
            for predicted in range(4):
                naive[label, predicted] += ((sample.label_map == label) & (labels == predicted)).sum()
    found = evaluate(Engine(model), dataset, protocol)
    assert torch.equal(found.confusion, naive)
    assert found.num_images == 5
    assert torch.equal(found.margins.sum(0), torch.stack([naive.diagonal(), naive.sum(1), naive.sum(0)]))
    assert found.protocol == protocol
    assert found.name == "pictures"
    assert found.class_names == model.dims.class_names
    assert found.seconds > 0


def test_workers_change_nothing(model, pictures):
    here, there = (evaluate(model, pictures(), Protocol(), num_workers=n, num_examples=3) for n in (0, 2))
    assert torch.equal(here.margins, there.margins)
    assert torch.equal(here.confusion, there.confusion)
    for a, b in zip(here.examples, there.examples, strict=True):
        assert a.name == b.name
        assert np.array_equal(a.image, b.image)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_model_in_training_does_not_notice(model, pictures, num_workers):
    model.train()
    model.backbone.blocks[0].eval()  # a frozen block
    model(model.normalise(pictures()[0].image[None])).final.mask_logits.sum().backward()
    modes = {name: module.training for name, module in model.named_modules()}
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()

    first = evaluate(model, pictures(), Protocol(), num_workers=num_workers)

    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, p in model.named_parameters():
        assert gradients[name] is p.grad is None or torch.equal(p.grad, gradients[name])
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(first.confusion, evaluate(model.eval(), pictures(), Protocol()).confusion), "dropout was on"
    model.train()
    model(model.normalise(pictures()[0].image[None])).final.mask_logits.sum().backward()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_file_stops_with_its_one_sentence(model, pictures, num_workers):
    model.train()
    with pytest.raises(InputError) as caught:
        evaluate(model, pictures(broken=2), Protocol(), num_workers=num_workers)
    assert str(caught.value) == "Image 'picture_2.png' cannot be read; it may be damaged."
    assert model.training


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["road", "car"], r"knows 4 classes \(road, building … car\), but data set 'city' has 2 \(road, car\)"),
        (["road", "sky", "building", "car"], "knows label 1 as 'building', but data set 'city' as 'sky'"),
    ],
)
def test_other_classes_are_refused(model, pictures, names, message):
    with pytest.raises(InputError, match=message):
        evaluate(model, pictures(classes=class_table(names)), Protocol(), name="city")


def test_an_equal_table_under_another_name_is_welcome(model, pictures, classes):
    table = class_table({"name": "mine", "names": list(classes.names), "colors": [[0, 0, 0]] * 4})
    assert evaluate(model, pictures(1, classes=table), Protocol()).classes is table


def test_an_empty_data_set_is_refused(model, pictures):
    with pytest.raises(InputError, match="Data set 'pictures' is empty"):
        evaluate(model, pictures(0), Protocol())


def test_images_without_valid_pixel_count_for_nothing(model, pictures):
    some, all_ = (evaluate(model, pictures(2, ignored=i), Protocol()) for i in ((1,), (0, 1)))
    assert torch.equal(some.confusion, evaluate(model, pictures(1), Protocol()).confusion)
    assert some.num_images == 2
    assert np.isnan(all_.mean_iou)
    content = all_.to_json()
    assert content["mean_iou"] is content["pixel_accuracy"] is content["classes"]["road"]["iou"] is None
    assert content["mean_iou_interval"] == [None, None]


def test_examples_are_spread_and_complete(model, pictures):
    examples = evaluate(model, pictures(), Protocol(short_side=16), num_examples=2).examples
    assert [example.name for example in examples] == ["picture_1", "picture_3"]
    for example in examples:
        assert example.image.shape == (*example.label_map.shape, 3)
        assert example.prediction.shape == example.label_map.shape
        assert {a.dtype for a in (example.image, example.label_map, example.prediction)} == {np.dtype(np.uint8)}
    assert np.array_equal(examples[0].label_map, pictures()[1].label_map.numpy())


def test_spread_takes_middles_and_never_more_than_there_are():
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 10) == [0, 1, 2]
    assert spread(5, 0) == []


def test_progress_tells_every_image(model, pictures):
    seen = []
    evaluate(model, pictures(3), Protocol(), progress=lambda *numbers: seen.append(numbers))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_presets_know_a_data_set_by_its_layout(model, pictures):
    """Labels of Mapillary are compared at half size, those of any other data set whole."""
    plain, mapillary = pictures(2), pictures(2)
    mapillary.layout, mapillary.split = "mapillary", "validation"
    preset = ProtocolPreset("mine", Protocol(window=16, stride=16), {"mapillary": Protocol(label_reduction=2)})
    found, reduced = (evaluate(model, data, preset) for data in (plain, mapillary))
    assert str(found.protocol) == "mine: native size, windows 16/16, labels at native size"
    assert str(reduced.protocol) == "mine: native size, whole image, labels at half size"
    assert (found.split, reduced.split) == (None, "validation")
    labelled = sum((data[i].label_map != 255).sum() for data in (plain,) for i in range(2))
    assert found.confusion.sum() == labelled
    assert reduced.confusion.sum() == sum((plain[i].label_map[1::2, 1::2] != 255).sum() for i in range(2))
    assert reduced.to_json()["split"] == "validation"


def test_counting_in_parts_changes_nothing(model, pictures, monkeypatch):
    """Very large images are counted a few rows at a time."""
    whole = evaluate(model, pictures(2), Protocol())
    monkeypatch.setattr("queryseg.metrics.confusion._AT_ONCE", 100)
    assert torch.equal(evaluate(model, pictures(2), Protocol()).confusion, whole.confusion)


def test_an_image_too_large_to_be_shown_whole_is_refused(model, pictures, monkeypatch):
    """A score by another protocol than asked for would be worse than none."""
    monkeypatch.setattr("queryseg.inference.windows.WHOLE_LIMIT", 24 * 40 - 1)
    with pytest.raises(InputError, match=r"'picture_0' has 40×24 pixels, too many .* --window 512"):
        evaluate(model, pictures(1), Protocol())
    assert evaluate(model, pictures(1), Protocol(window=16, stride=16)).num_images == 1


@pytest.mark.parametrize(
    "protocol", [Protocol(flip=True), Protocol(scales=(0.5, 1)), Protocol(window=16, flip=True, stride=12)], ids=str
)
def test_observers_see_the_first_view(model, pictures, protocol):
    """Of every image as many views as the plain protocol has, each with its labels."""
    seen, plain = [], []
    evaluate(model, pictures(2), protocol, observer=seen.append)
    evaluate(model, pictures(2), replace(protocol, flip=False, scales=protocol.scales[:1]), observer=plain.append)
    assert [tuple(o.label_maps.shape) for o in seen] == [tuple(o.label_maps.shape) for o in plain]
    assert all(torch.equal(one.label_maps, other.label_maps) for one, other in zip(seen, plain, strict=True))
