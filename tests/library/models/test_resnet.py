"""The ResNet18 that serves is, bit for bit, the one that was trained."""

import subprocess
import sys

import pytest

from deferred import deferred
from leakfree.base.precision import autocast

with deferred:
    import torch

    from leakfree.models.networks import build
    from leakfree.models.resnet import ResNet18


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    trained, _ = build("resnet18", 3, 64)
    trained.train()(torch.randn(8, 1, 64, 64))  # the running statistics are no longer 0 and 1
    served = ResNet18(3)
    served.load_state_dict(trained.state_dict())
    return trained.eval(), served.eval()


def test_parameters_have_the_names_order_and_shapes_of_torchvision(pair):
    trained, served = pair
    assert [(k, v.shape, v.dtype) for k, v in served.state_dict().items()] == [
        (k, v.shape, v.dtype) for k, v in trained.state_dict().items()
    ]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [32, 97])
def test_logits_are_the_same_bits(pair, precision, size):
    trained, served = pair
    x = torch.randn(3, 1, size, size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(precision):
        assert torch.equal(trained(x), served(x))


def test_gradients_are_the_same_bits(pair):
    trained, served = pair
    x = torch.randn(2, 1, 32, 32)
    for network in pair:
        network.zero_grad()
        network(x).square().sum().backward()
    assert torch.equal(trained.conv1.weight.grad, served.conv1.weight.grad)
    assert torch.equal(
        trained.layer2[0].downsample[0].weight.grad, served.layer2[0].downsample[0].weight.grad
    )


def test_it_needs_no_torchvision():
    code = "import sys, leakfree.models.resnet; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
