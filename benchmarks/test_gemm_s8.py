"""int8 linear layers of real models, every variant, one thread."""

from __future__ import annotations

from typing import Any

import pytest

from int8_case import time_gemm, variants

SHAPES = {
    "bert-base-attention": (128, 768, 768),
    "bert-base-up": (128, 3072, 768),
    "bert-base-down": (128, 768, 3072),
    "minilm-up": (128, 1536, 384),
    "minilm-down": (128, 384, 1536),
    "8-tokens": (8, 768, 768),
    "4-tokens": (4, 768, 768),
    "1-token": (1, 768, 768),
    "classifier": (1, 1000, 2048),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_linear(benchmark: Any, variant: str, shape: tuple[int, int, int]) -> None:
    time_gemm(benchmark, variant, shape)


@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_float_output(benchmark: Any, variant: str) -> None:
    time_gemm(benchmark, variant, SHAPES["bert-base-attention"], out_f32=True)


@pytest.mark.parametrize("variant", variants("gemm_s8"))
def test_residual(benchmark: Any, variant: str) -> None:
    time_gemm(benchmark, variant, SHAPES["bert-base-attention"], residual=True)
