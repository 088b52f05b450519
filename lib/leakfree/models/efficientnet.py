"""EfficientNet-Lite0 for prediction: the parameters and the arithmetic of timm's, without timm.

Importing timm takes seconds and pulls torchvision in. Training makes its networks in
`leakfree.models.networks`; `test_served.py` holds both to the same bits.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: Blocks by stage: how many, width, side of the kernel, stride of the first (Tan and Le, "EfficientNet", ICML
#: 2019, table 1; Lite0 keeps the widths of B0, has ReLU6 and no squeeze and excitation).
_STAGES = (
    (1, 16, 3, 1),
    (2, 24, 3, 2),
    (2, 40, 5, 2),
    (3, 80, 3, 2),
    (3, 112, 5, 1),
    (4, 192, 5, 2),
    (1, 320, 3, 1),
)
_EXPANSION, _EPS = 6, 1e-3


class _Conv(nn.Conv2d):
    """A convolution padded as in TensorFlow: at stride 2, one pixel more at the far sides."""

    def __init__(self, before: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(before, width, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side, stride, kernel = x.shape[-1], self.stride[0], self.kernel_size[0]
        more = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        if more % 2:
            return super().forward(functional.pad(x, [more // 2, more - more // 2] * 2))
        return functional.conv2d(x, self.weight, None, self.stride, more // 2, 1, self.groups)


class _Separable(nn.Module):
    """The first block: a convolution of each channel, then one across channels."""

    def __init__(self, before: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _Conv(before, before, kernel, stride, groups=before)
        self.bn1 = nn.BatchNorm2d(before, _EPS)
        self.conv_pw = _Conv(before, width)
        self.bn2 = nn.BatchNorm2d(width, _EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float (b, before, h, w) to float (b, width, h / stride, w / stride)."""
        return self.bn2(self.conv_pw(functional.relu6(self.bn1(self.conv_dw(x)))))


class _Inverted(nn.Module):
    """An inverted residual (Sandler et al., "MobileNetV2", CVPR 2018, figure 4)."""

    def __init__(self, before: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = before * _EXPANSION
        self.conv_pw = _Conv(before, inner)
        self.bn1 = nn.BatchNorm2d(inner, _EPS)
        self.conv_dw = _Conv(inner, inner, kernel, stride, groups=inner)
        self.bn2 = nn.BatchNorm2d(inner, _EPS)
        self.conv_pwl = _Conv(inner, width)
        self.bn3 = nn.BatchNorm2d(width, _EPS)
        self.adds = stride == 1 and before == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map float (b, before, h, w) to float (b, width, h / stride, w / stride)."""
        out = functional.relu6(self.bn1(self.conv_pw(x)))
        out = functional.relu6(self.bn2(self.conv_dw(out)))
        out = self.bn3(self.conv_pwl(out))
        return out + x if self.adds else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for grey images, with the parameter names of timm's ``tf_efficientnet_lite0``.

    Parameters
    ----------
    classes : int
        Number of outputs.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_stem = _Conv(1, 32, 3, 2)
        self.bn1 = nn.BatchNorm2d(32, _EPS)
        before, stages = 32, []
        for number, (blocks, width, kernel, stride) in enumerate(_STAGES):
            kind = _Inverted if number else _Separable
            made = [kind(before, width, kernel, stride)]
            made += [kind(width, width, kernel, 1) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*made))
            before = width
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _Conv(before, 1280)
        self.bn2 = nn.BatchNorm2d(1280, _EPS)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images, float (b, 1, size, size), to logits, float (b, classes)."""
        x = self.blocks(functional.relu6(self.bn1(self.conv_stem(x))))
        x = functional.relu6(self.bn2(self.conv_head(x)))
        return self.classifier(x.mean(dim=(2, 3)))
