"""int8 convolutions of ResNet-50 and MobileNetV2 through offset tables, every variant, one thread, NHWC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from int8_case import KERNELS, aligned, time_gemm, time_kernel, variants


def window_offsets(size: int, channels: int, kernel: int, stride: int = 1) -> np.ndarray:
    """Offsets of every tap of a square convolution over size x size pixels; -1 outside the image."""
    out = np.arange(0, size, stride)
    y, x, dy, dx = np.ix_(out, out, np.arange(kernel) - kernel // 2, np.arange(kernel) - kernel // 2)
    y, x = y + dy, x + dx
    inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
    return np.where(inside, (y * size + x) * channels, -1).reshape(len(out) ** 2, kernel**2).astype(np.int32)


# (image, input channels, output channels)
CONV3 = {"res2": (56, 64, 64), "res3": (28, 128, 128), "res4": (14, 256, 256), "res5": (7, 512, 512)}
CONV1 = {"res2-down": (56, 256, 64), "res2-up": (56, 64, 256), "res5-up": (7, 512, 2048), "mobile": (14, 96, 576)}
# (image, channels, stride, kernel)
DEPTHWISE = {
    "112x32": (112, 32, 1, 3),
    "112x16": (112, 16, 1, 3),
    "56x24": (56, 24, 1, 3),
    "56x64": (56, 64, 1, 3),
    "56x144": (56, 144, 1, 3),
    "56x144-stride-2": (56, 144, 2, 3),
    "28x192": (28, 192, 1, 3),
    "14x576": (14, 576, 1, 3),
    "14x576-stride-2": (14, 576, 2, 3),
    "7x960": (7, 960, 1, 3),
    "28x128-5": (28, 128, 1, 5),
    "14x480-5-stride-2": (14, 480, 2, 5),
}


@pytest.mark.parametrize("conv", CONV3.values(), ids=CONV3)
@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_3x3(benchmark: Any, variant: str, conv: tuple[int, int, int]) -> None:
    size, channels, filters = conv
    offsets = window_offsets(size, channels, 3)
    time_gemm(benchmark, variant, (size**2, filters, channels), offsets)


@pytest.mark.parametrize("conv", CONV1.values(), ids=CONV1)
@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_1x1(benchmark: Any, variant: str, conv: tuple[int, int, int]) -> None:
    size, channels, filters = conv
    time_gemm(benchmark, variant, (size**2, filters, channels))


@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_first_7x7(benchmark: Any, variant: str) -> None:
    """The 7 pixels of 3 channels in a filter row are one tap, over an image with its padding around it."""
    row, pixels = 3 * 230, np.arange(0, 224, 2)
    offsets = pixels[:, None, None] * row + pixels[:, None] * 3 + np.arange(7) * row
    offsets = offsets.reshape(112 * 112, 7).astype(np.int32)
    time_gemm(benchmark, variant, (len(offsets), 64, 21), offsets)


@pytest.mark.parametrize("conv", DEPTHWISE.values(), ids=DEPTHWISE)
@pytest.mark.parametrize("variant", variants("depthwise_s8"))
def test_depthwise(benchmark: Any, variant: str, conv: tuple[int, int, int, int]) -> None:
    size, channels, stride, kernel = conv
    rng = np.random.default_rng(0)
    inputs = {
        "a": aligned(rng.integers(0, 256, (size, size, channels), np.uint8)),
        "w": aligned(rng.integers(-127, 128, (kernel, kernel, channels), np.int8)),
        "offset": rng.integers(-9000, 9000, channels).astype(np.int32),
        "scale": np.full(channels, 1 / 600, np.float32),
        "bias": np.full(channels, 128, np.float32),
        "stride": (stride, stride),
        "padding": (kernel // 2, kernel // 2),
        "pad": 128,
    }
    out = aligned(np.zeros(((size + stride - 1) // stride, (size + stride - 1) // stride, channels), np.uint8))
    expected = KERNELS.depthwise_s8(**inputs, variant="reference", out=np.zeros_like(out))
    np.testing.assert_array_equal(KERNELS.depthwise_s8(**inputs, variant=variant, out=out), expected)

    def run(repeats: int) -> None:
        KERNELS.depthwise_s8(**inputs, variant=variant, out=out, repeats=repeats)

    time_kernel(benchmark, run, out.size * kernel * kernel)
