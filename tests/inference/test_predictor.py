import numpy as np
import pytest
import torch
from PIL import Image

import queryseg
from queryseg import loading
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, QuerysegError
from queryseg.inference.engine import CompiledEngine
from queryseg.inference.predictor import Predictor, find_device
from queryseg.inference.run_folder import LoadedRun


@pytest.fixture
def predictor(model, classes):
    return Predictor(model, classes, device="cpu")


@pytest.fixture
def picture(image):
    return image.permute(1, 2, 0).numpy()


def test_a_segmentation_has_the_image_s_size(predictor, picture, classes, engine, image):
    result = predictor.predict(picture)
    with torch.no_grad():
        assert np.array_equal(result.labels, engine(image[None])[0].numpy())
    assert np.array_equal(result.image, picture)
    assert result.classes is classes
    assert result.scores is None
    assert len(np.unique(result.labels)) > 1, "the model must say something for this test to mean anything"


@pytest.mark.parametrize("protocol", [None, Protocol(short_side=24), Protocol(window=32, stride=16)], ids=str)
def test_scores_on_request_agree_with_labels(model, classes, picture, protocol):
    predictor = Predictor(model, classes, protocol, device="cpu")
    result = predictor.predict(picture, scores=True)
    assert result.scores.shape == (4, 40, 72)
    assert result.scores.dtype == np.float32
    assert np.array_equal(result.scores.argmax(0), result.labels)
    assert np.array_equal(result.labels, predictor.predict(picture).labels)


def test_many_files_in_order(predictor, picture, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(paths):
        Image.fromarray(np.roll(picture, 9 * i, 1)).save(path)
    found = list(predictor.predict_many(iter(paths)))
    assert len(found) == 4
    for path, result in zip(paths, found, strict=True):
        assert np.array_equal(result.labels, predictor.predict(path).labels)
    assert list(predictor.predict_many([])) == []


def test_a_damaged_file_among_many_is_named_in_its_turn(predictor, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    results = predictor.predict_many([tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "good.png"])
    assert next(results).labels.shape == (40, 72)
    with pytest.raises(InputError, match=r"bad\.png"):
        next(results)


def test_half_precision_says_nearly_the_same(model, classes, picture):
    full = Predictor(model, classes, device="cpu").predict(picture, scores=True)
    half = Predictor(model, classes, device="cpu", precision="bf16").predict(picture, scores=True)
    assert not np.array_equal(half.scores, full.scores), "autocast was not on"
    assert (half.labels == full.labels).mean() > 0.9


@pytest.mark.parametrize("protocol", [None, Protocol(short_side=24), Protocol(window=32, stride=16)], ids=str)
def test_labels_of_arrays_in_any_layout(model, classes, picture, protocol):
    """The shortest way says what `predict` says, one by one or as a batch, RGB first or last."""
    predictor = Predictor(model, classes, protocol, device="cpu")
    pictures = np.stack([picture, picture[:, ::-1]])
    expected = np.stack([predictor.predict(one).labels for one in pictures])
    assert np.array_equal(predictor.labels(pictures), expected)
    assert np.array_equal(predictor.labels(pictures.transpose(0, 3, 1, 2)), expected)
    assert np.array_equal(predictor.labels(picture), expected[0])
    assert np.array_equal(predictor.labels(picture.transpose(2, 0, 1)), expected[0])
    assert predictor.labels(picture).dtype == np.uint8


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 8, 8, 4), np.uint8), np.zeros((2, 3, 8, 8)), np.zeros((0, 8, 8, 3), np.uint8)]
)
def test_batches_that_are_none(predictor, wrong):
    with pytest.raises(InputError, match="a batch is"):
        predictor.labels(wrong)


def test_half_weights_leave_the_given_model_alone(model, classes):
    half = Predictor(model, classes, device="cpu", precision="bf16").engine.model
    assert half.heads.class_embed.weight.dtype == torch.bfloat16
    assert half.backbone.norm.weight.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_half_precision_begins_behind_the_stem(model, classes):
    """A grey level in the dark is about one bfloat16 step of a normalised pixel: rounded there, patches of neighbouring
    levels become one."""
    predictor = Predictor(model, classes, device="cpu", precision="bf16")
    seen = {}
    sections = predictor.engine.model.backbone.sections()
    for name, section in (("stem", sections[0].patch_embed), ("block", sections[1].mlp.fc1)):
        section.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output.dtype}))
    predictor.labels(np.full((64, 64, 3), 3, np.uint8))
    assert seen == {"stem": torch.float32, "block": torch.bfloat16}


def test_tf32_needs_a_gpu(model, classes):
    with pytest.raises(InputError, match="tf32 needs an NVIDIA GPU, but the device is cpu"):
        Predictor(model, classes, device="cpu", precision="tf32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_graph_is_whole_and_says_the_same(model, classes, picture, precision):
    """Labels at the image's own and at another size, scores; without machine code, which takes long to make."""
    plain = Predictor(model, classes, device="cpu", precision=precision)
    compiled = CompiledEngine(plain.engine, backend="eager")
    for protocol in (Protocol(), Protocol(short_side=24)):
        fast, slow = (Predictor(engine, classes, protocol) for engine in (compiled, plain.engine))
        expected, found = slow.predict(picture, scores=True), fast.predict(picture, scores=True)
        assert np.allclose(found.scores, expected.scores, atol=1e-4 if precision == "fp32" else 0.05)
        assert (fast.labels(picture) == expected.labels).mean() > 0.99


def test_images_of_many_sizes_are_compiled(model, classes):
    """torch stops after eight by itself."""
    compiled = CompiledEngine(Predictor(model, classes, device="cpu").engine, backend="eager")
    predictor = Predictor(compiled, classes)
    for height in range(32, 43):
        assert predictor.labels(np.zeros((height, 48, 3), np.uint8)).shape == (height, 48)


def test_machine_code_says_the_same(model, classes, picture):
    compiled = Predictor(model, classes, device="cpu", compile=True)
    assert isinstance(compiled.engine, CompiledEngine)
    assert (compiled.labels(picture) == Predictor(model, classes, device="cpu").labels(picture)).mean() > 0.999


def test_what_cannot_be_compiled_is_one_sentence(model, classes, picture, monkeypatch):
    def breaks(*_):
        torch._dynamo.graph_break()

    monkeypatch.setattr(model.readout, "labels", breaks)
    with pytest.raises(InputError, match=r"cannot be compiled here \(.*predict without compile") as caught:
        Predictor(model, classes, device="cpu", compile=True).predict(picture)
    assert "\n" not in str(caught.value)


def test_a_model_can_learn_after_it_predicted(model, classes, picture, image):
    Predictor(model, classes, device="cpu").predict(picture)
    model.train()
    output = model(model.normalise(image[None]))
    output.final.mask_logits.sum().backward()
    assert all(p.grad is not None for p in model.queries.parameters())


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "toaster"])
def test_devices_that_are_not_there(name):
    with pytest.raises(InputError, match=f"Device '{name}' cannot be used here") as caught:
        find_device(name)
    assert "\n" not in str(caught.value)


def test_unknown_precision(model, classes):
    with pytest.raises(InputError, match="no precision 'fp8'"):
        Predictor(model, classes, device="cpu", precision="fp8")


def test_load_takes_the_protocol_that_the_run_was_validated_with(model, classes, picture, tmp_path, monkeypatch):
    recipe = {"data": {"protocol": {"short_side": 24, "window": None, "stride": 341}}}
    given = []

    def read_model(folder, allow, base):
        given.append((folder, allow))
        return LoadedRun(model, classes, recipe, tmp_path)

    monkeypatch.setattr(loading, "read_model", read_model)
    predictor = queryseg.load(tmp_path, allow=["mine"], device="cpu")
    assert given == [(tmp_path, ["mine"])]
    assert predictor.protocol == Protocol(short_side=24)
    assert predictor.predict(picture).labels.shape == (40, 72)
    assert queryseg.load(tmp_path, device="cpu", protocol=Protocol()).protocol == Protocol()
    recipe.clear()
    assert queryseg.load(tmp_path, device="cpu").protocol == Protocol()


def test_load_of_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(QuerysegError, match="There is no run"):
        queryseg.load(tmp_path / "nothing", device="cpu")
