"""conv_s8: every row of its table against integer arithmetic on the windows, bit for bit."""

import numpy as np
import pytest

from int8_rows import KERNELS, exact_fma, rows, to_u8
from kernels_guard import guarded, guarded_empty

# output (height, width), filter (height, width), channels, stride, columns
CASES = [
    ((1, 1), (3, 3), 4, 1, 1),
    ((5, 7), (3, 3), 16, 1, 16),
    ((7, 7), (3, 3), 64, 1, 70),
    ((4, 33), (3, 3), 20, 1, 64),
    ((9, 14), (3, 3), 128, 1, 130),
    ((6, 30), (7, 7), 3, 2, 64),
    ((3, 17), (5, 3), 7, 2, 33),
    ((2, 50), (1, 4), 3, 3, 40),
    ((11, 3), (2, 2), 12, 1, 48),
]


def case(number):
    (height, width), (kernel_h, kernel_w), channels, stride, n = CASES[number]
    rng = np.random.default_rng(number)
    filter_row = kernel_w * channels
    k = KERNELS.conv_s8_tap_bytes(filter_row)
    padded_width = (width - 1) * stride + kernel_w
    geometry = {
        "taps": kernel_h, "k": k, "pixel_stride": stride * channels, "row_stride": stride * padded_width * channels,
        "tap_stride": padded_width * channels,
    }  # fmt: skip
    image = guarded_empty((KERNELS.conv_s8_image_bytes(height, **geometry),), np.uint8)
    image[:] = rng.integers(0, 256, image.shape)
    w = rng.integers(-127, 128, (n, kernel_h, filter_row), np.int8)
    full = np.zeros((n, kernel_h, k), np.int8)
    full[:, :, :filter_row] = w
    packed = guarded(KERNELS.gemm_s8_pack(full.reshape(n, -1)))
    offset = rng.integers(-5000, 5000, n, np.int32)
    scale = rng.uniform(0.5, 1, n).astype(np.float32) / np.float32(600 * np.sqrt(kernel_h * filter_row))
    bias = rng.uniform(0, 255, n).astype(np.float32)
    sums = np.empty((height * width, n), np.int64)
    for y in range(height):
        for x in range(width):
            start = y * geometry["row_stride"] + x * geometry["pixel_stride"]
            taps = [image[start + t * geometry["tap_stride"] :][:filter_row] for t in range(kernel_h)]
            sums[y * width + x] = np.einsum("tk,ntk->n", np.array(taps, np.int64), w.astype(np.int64))
    v = exact_fma((sums + offset).astype(np.float32), scale, bias)
    return (image, packed, offset, scale, bias), {"size": (height, width), **geometry}, v


@pytest.mark.parametrize("variant", rows("conv_s8", reference=True))
@pytest.mark.parametrize("number", range(len(CASES)))
def test_convolution(variant, number):
    arrays, geometry, v = case(number)
    got = KERNELS.conv_s8(*arrays, variant=variant, **geometry)
    np.testing.assert_array_equal(got, to_u8(v))
    floats = KERNELS.conv_s8(*arrays, variant=variant, out_f32=True, **geometry)
    np.testing.assert_array_equal(floats, v)


@pytest.mark.parametrize("variant", rows("conv_s8", reference=True))
def test_residual_and_part_of_the_rows(variant):
    arrays, geometry, v = case(2)
    rng = np.random.default_rng(1)
    residual = rng.integers(0, 256, v.shape, np.uint8)
    got = KERNELS.conv_s8(*arrays, variant=variant, residual=residual, residual_scale=0.25, **geometry)
    np.testing.assert_array_equal(got, to_u8(exact_fma(residual.astype(np.float32), np.float32(0.25), v)))
    height, width = geometry["size"]
    part = KERNELS.conv_s8(*arrays, variant=variant, rows=(2, 5), **geometry).reshape(height, width, -1)
    assert not part[:2].any()
    assert not part[5:].any()
    np.testing.assert_array_equal(part[2:5], to_u8(v).reshape(height, width, -1)[2:5])
