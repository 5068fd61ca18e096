"""Single kernel variants, for tests and benchmarks."""

from typing import Any

from numpy import float32, int8, int32, int64, uint8, uint16
from numpy.typing import NDArray

def list_kernels() -> list[tuple[str, str, str]]: ...
def multiply_chain(links: int) -> float: ...
def gemm_f32_pack(w: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def gemm_f32_scratch_floats(packed: NDArray[Any], n: int, k_total: int) -> int: ...
def gemm_f32(
    a: NDArray[float32],
    packed: NDArray[Any],
    n: int,
    *,
    variant: str,
    k: int = 0,
    offsets: NDArray[int32] | None = None,
    pad_row: NDArray[float32] | None = None,
    bias: NDArray[float32] | None = None,
    residual: NDArray[float32] | None = None,
    lo: float = ...,
    hi: float = ...,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    scratch: NDArray[float32] | None = None,
    out: NDArray[float32] | None = None,
    repeats: int = 1,
) -> NDArray[float32]: ...
def gemm_sparse_f32_scratch_floats(n: int, k_total: int) -> int: ...
def gemm_sparse_f32(
    a: NDArray[float32],
    w: NDArray[float32],
    *,
    variant: str,
    block_rows: int,
    k: int = 0,
    offsets: NDArray[int32] | None = None,
    pad_row: NDArray[float32] | None = None,
    bias: NDArray[float32] | None = None,
    residual: NDArray[float32] | None = None,
    lo: float = ...,
    hi: float = ...,
    rows: tuple[int, int] | None = None,
    columns: tuple[int, int] | None = None,
    scratch: NDArray[float32] | None = None,
    out: NDArray[float32] | None = None,
    repeats: int = 1,
) -> NDArray[float32]: ...
def depthwise_f32(
    a: NDArray[float32],
    offsets: NDArray[int32],
    w: NDArray[float32],
    *,
    variant: str,
    pad_row: NDArray[float32] | None = None,
    bias: NDArray[float32] | None = None,
    lo: float = ...,
    hi: float = ...,
    rows: tuple[int, int] | None = None,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def pool_max_f32(
    a: NDArray[float32],
    starts: NDArray[int32],
    offsets: NDArray[int32],
    channels: int,
    *,
    variant: str,
    divisor: NDArray[float32] | None = None,
    rows: tuple[int, int] | None = None,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def pool_avg_f32(
    a: NDArray[float32],
    starts: NDArray[int32],
    offsets: NDArray[int32],
    channels: int,
    *,
    variant: str,
    divisor: NDArray[float32] | None = None,
    rows: tuple[int, int] | None = None,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def unary(
    op: str,
    x: NDArray[float32],
    *,
    variant: str,
    lo: float = ...,
    hi: float = ...,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def binary(
    op: str, a: NDArray[float32], b: NDArray[float32], *, variant: str, out: NDArray[float32] | None = None
) -> NDArray[float32]: ...
def softmax(x: NDArray[float32], *, variant: str, out: NDArray[float32] | None = None) -> NDArray[float32]: ...
def layer_norm(
    x: NDArray[float32],
    *,
    variant: str,
    gamma: NDArray[float32] | None = None,
    beta: NDArray[float32] | None = None,
    epsilon: float = ...,
    inverse_scale: float | None = None,
    zero_point: float = ...,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def rms_norm(
    x: NDArray[float32],
    *,
    variant: str,
    gamma: NDArray[float32] | None = None,
    epsilon: float = ...,
    inverse_scale: float | None = None,
    zero_point: float = ...,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def mean_rows(
    x: NDArray[float32], divisor: float, *, variant: str, out: NDArray[float32] | None = None
) -> NDArray[float32]: ...
def mean_last(
    x: NDArray[float32], divisor: float, *, variant: str, out: NDArray[float32] | None = None
) -> NDArray[float32]: ...
def attention_scratch_floats(keys: int, dim: int, value_dim: int) -> int: ...
def attention(
    q: NDArray[float32],
    k: NDArray[float32],
    v: NDArray[float32],
    *,
    variant: str,
    scale: float = 1.0,
    mask: NDArray[float32] | None = None,
    mask_bool: NDArray[uint8] | None = None,
    causal: bool = False,
    rows: tuple[int, int] | None = None,
    scratch: NDArray[float32] | None = None,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def gemm_s8_pack(w: NDArray[int8]) -> NDArray[int8]: ...
def gemm_s8_scratch_bytes(k_total: int) -> int: ...
def gemm_s8(
    a: NDArray[uint8],
    packed: NDArray[int8],
    offset: NDArray[int32],
    scale: NDArray[float32],
    bias: NDArray[float32],
    *,
    variant: str,
    k: int,
    offsets: NDArray[int32] | None = None,
    pad_row: NDArray[uint8] | None = None,
    residual: NDArray[Any] | None = None,
    residual_scale: float = 1.0,
    lo: float = 0.0,
    hi: float = 255.0,
    may_be_bounded: bool = True,
    pairs_may_fit: bool = True,
    out_f32: bool = False,
    m_range: tuple[int, int] | None = None,
    n_range: tuple[int, int] | None = None,
    out: NDArray[Any] | None = None,
    scratch: NDArray[uint8] | None = None,
    repeats: int = 1,
) -> NDArray[Any]: ...
def gemm_sparse_s8_scratch_bytes(n: int, k_total: int) -> int: ...
def gemm_sparse_s8(
    a: NDArray[uint8],
    w: NDArray[int8],
    offset: NDArray[int32],
    scale: NDArray[float32],
    bias: NDArray[float32],
    *,
    variant: str,
    k: int,
    block_rows: int,
    offsets: NDArray[int32] | None = None,
    pad_row: NDArray[uint8] | None = None,
    residual: NDArray[Any] | None = None,
    residual_scale: float = 1.0,
    lo: float = 0.0,
    hi: float = 255.0,
    may_be_bounded: bool = True,
    out_f32: bool = False,
    m_range: tuple[int, int] | None = None,
    n_range: tuple[int, int] | None = None,
    out: NDArray[Any] | None = None,
    scratch: NDArray[uint8] | None = None,
    repeats: int = 1,
) -> NDArray[Any]: ...
def widen(x: NDArray[uint16], dtype: str, *, variant: str, out: NDArray[float32] | None = None) -> NDArray[float32]: ...
def narrow(x: NDArray[float32], dtype: str, *, variant: str, out: NDArray[uint16] | None = None) -> NDArray[uint16]: ...
def score_bins(
    w: NDArray[float32],
    *,
    variant: str,
    norm: NDArray[float32] | None = None,
    low: int = 0,
    shift: int = ...,
    bits: int = ...,
    elements: tuple[int, int] | None = None,
) -> tuple[NDArray[int64], int]: ...
def apply_mask(
    w: NDArray[float32],
    threshold: int,
    ties: int,
    *,
    variant: str,
    norm: NDArray[float32] | None = None,
    elements: tuple[int, int] | None = None,
    out: NDArray[uint8] | None = None,
) -> tuple[NDArray[uint8], int]: ...
def block_scores(
    w: NDArray[float32],
    block: tuple[int, int],
    *,
    variant: str,
    norm: NDArray[float32] | None = None,
    energy: bool = False,
    rows: tuple[int, int] | None = None,
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
def nm_mask(
    w: NDArray[float32],
    n: int,
    m: int,
    *,
    variant: str,
    norm: NDArray[float32] | None = None,
    rows: tuple[int, int] | None = None,
    out: NDArray[uint8] | None = None,
) -> NDArray[uint8]: ...
def depthwise_s8_scratch_bytes(kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> int: ...
def depthwise_s8(
    a: NDArray[uint8],
    w: NDArray[int8],
    offset: NDArray[int32],
    scale: NDArray[float32],
    bias: NDArray[float32],
    *,
    variant: str,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    pad: int = 0,
    lo: float = 0.0,
    hi: float = 255.0,
    rows: tuple[int, int] | None = None,
    out: NDArray[Any],
    scratch: NDArray[uint8] | None = None,
    repeats: int = 1,
) -> NDArray[Any]: ...
def pool_max_u8(
    a: NDArray[uint8],
    starts: NDArray[int32],
    offsets: NDArray[int32],
    channels: int,
    *,
    variant: str,
    out: NDArray[uint8],
    m_range: tuple[int, int] | None = None,
) -> NDArray[uint8]: ...
def pool_avg_u8(
    a: NDArray[uint8],
    starts: NDArray[int32],
    offsets: NDArray[int32],
    channels: int,
    multiplier: NDArray[float32],
    bias: NDArray[float32],
    *,
    variant: str,
    out: NDArray[uint8],
    m_range: tuple[int, int] | None = None,
) -> NDArray[uint8]: ...
def quantize(
    x: NDArray[float32], inverse_scale: float, zero_point: float, *, variant: str, out: NDArray[uint8] | None = None
) -> NDArray[uint8]: ...
def dequantize(
    q: NDArray[uint8], scale: float, zero_point: int, *, variant: str, out: NDArray[float32] | None = None
) -> NDArray[float32]: ...
def add_u8(
    a: NDArray[uint8],
    b: NDArray[uint8] | None,
    a_scale: float,
    b_scale: float,
    bias: float,
    *,
    lo: float = 0.0,
    hi: float = 255.0,
    variant: str,
    out: NDArray[uint8] | None = None,
) -> NDArray[uint8]: ...
def conv_s8(
    image: NDArray[uint8],
    packed: NDArray[int8],
    offset: NDArray[int32],
    scale: NDArray[float32],
    bias: NDArray[float32],
    *,
    variant: str,
    size: tuple[int, int],
    taps: int,
    k: int,
    pixel_stride: int,
    row_stride: int,
    tap_stride: int,
    residual: NDArray[Any] | None = None,
    residual_scale: float = 1.0,
    out_f32: bool = False,
    rows: tuple[int, int] | None = None,
) -> NDArray[Any]: ...
def conv_s8_tap_bytes(filter_row_bytes: int) -> int: ...
def conv_s8_image_bytes(height: int, taps: int, k: int, pixel_stride: int, row_stride: int, tap_stride: int) -> int: ...
def pack_keys(k: NDArray[uint8], q_zero_point: int, *, variant: str) -> tuple[NDArray[int8], NDArray[int32]]: ...
def pack_values(v: NDArray[uint8], padded_keys: int, *, variant: str) -> NDArray[int8]: ...
def softmax_u8(
    scores: NDArray[float32],
    *,
    variant: str,
    first: int = 0,
    mask: NDArray[float32] | None = None,
    mask_bool: NDArray[uint8] | None = None,
    causal: bool = False,
) -> tuple[NDArray[uint8], NDArray[float32]]: ...
def scale_rows(
    x: NDArray[float32],
    factor: NDArray[float32],
    scale: float,
    shift: float,
    masked: float,
    *,
    out_f32: bool = False,
    variant: str,
) -> NDArray[Any]: ...
def lookup(
    a: NDArray[uint8], table: NDArray[uint8], *, variant: str, out: NDArray[uint8] | None = None
) -> NDArray[uint8]: ...
def observe(
    x: NDArray[float32], minimum: float, maximum: float, bad: int = 0, *, variant: str
) -> tuple[float, float, int]: ...
def histogram(
    x: NDArray[float32], first: float, inverse_width: float, counts: NDArray[int64], *, variant: str
) -> NDArray[int64]: ...
def copy(x: NDArray[Any], out: NDArray[Any], *, variant: str) -> None: ...
def embedding(table: NDArray[Any], ids: NDArray[int64], out: NDArray[Any], *, variant: str) -> int: ...
def embedding_s8(
    table: NDArray[int8], scale: NDArray[float32], ids: NDArray[int64], out: NDArray[float32], *, variant: str
) -> int: ...
