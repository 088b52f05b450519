"""The EfficientNet-Lite0 that serves is, bit for bit, the one that was trained."""

import subprocess
import sys

import pytest

from deferred import deferred
from leakfree.base.precision import autocast

with deferred:
    import torch

    from leakfree.models.efficientnet import EfficientNetLite0
    from leakfree.models.networks import build


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    trained, _ = build("efficientnet-lite0", 3, 64)
    trained.train()(torch.randn(8, 1, 64, 64))  # the running statistics are no longer 0 and 1
    served = EfficientNetLite0(3)
    served.load_state_dict(trained.state_dict())
    return trained.eval(), served.eval()


def test_parameters_have_the_names_order_and_shapes_of_timm(pair):
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
    x = torch.randn(2, 1, 33, 33)
    for network in pair:
        network.zero_grad()
        network(x).square().sum().backward()
    assert torch.equal(trained.conv_stem.weight.grad, served.conv_stem.weight.grad)
    assert torch.equal(trained.blocks[5][1].conv_dw.weight.grad, served.blocks[5][1].conv_dw.weight.grad)


def test_it_needs_neither_timm_nor_torchvision():
    code = (
        "import sys, leakfree.models.efficientnet; sys.exit(bool({'timm', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
