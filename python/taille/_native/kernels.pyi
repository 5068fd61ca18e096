"""Single kernel variants, for tests and benchmarks."""

from numpy import float32, int32, uint8
from numpy.typing import NDArray

def list_kernels() -> list[tuple[str, str, str]]: ...
def multiply_chain(links: int) -> float: ...
def gemm_f32_pack(w: NDArray[float32], out: NDArray[float32] | None = None) -> NDArray[float32]: ...
def gemm_f32(
    a: NDArray[float32],
    packed: NDArray[float32],
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
    out: NDArray[float32] | None = None,
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
    out: NDArray[float32] | None = None,
) -> NDArray[float32]: ...
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
