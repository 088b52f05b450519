"""The networks that serve (`resnet`, `efficientnet`) are, bit for bit, the ones that were trained.

That they need neither timm nor torchvision is asked in ``tests/library/predict/test_classifier.py``.
"""

import pytest

from deferred import deferred
from leakfree.base.precision import autocast

with deferred:
    import torch

    from leakfree.models.efficientnet import EfficientNetLite0
    from leakfree.models.networks import build
    from leakfree.models.resnet import ResNet18


@pytest.fixture(scope="module", params=["resnet18", "efficientnet-lite0"])
def pair(request):
    torch.manual_seed(0)
    trained, _ = build(request.param, 3, 64)
    trained.train()(torch.randn(8, 1, 64, 64))  # the running statistics are no longer 0 and 1
    served = {"resnet18": ResNet18, "efficientnet-lite0": EfficientNetLite0}[request.param](3)
    served.load_state_dict(trained.state_dict())
    return trained.eval(), served.eval()


def test_parameters_have_the_same_names_order_and_shapes(pair):
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
    mine = dict(served.named_parameters())
    assert all(torch.equal(value.grad, mine[name].grad) for name, value in trained.named_parameters())
