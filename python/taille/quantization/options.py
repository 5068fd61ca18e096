"""What `quantize_model` can be asked for, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taille.quantization.ignore import Ignored, text_of

__all__ = ["HALF_PRECISIONS", "Options", "Progress"]

HALF_PRECISIONS = ("float16", "bfloat16")
PRECISIONS = ("int8", *HALF_PRECISIONS, "mixed")
CALIBRATORS = ("minmax", "percentile", "entropy", "mse")
CLIPPINGS = ("auto", "mse", "pairs", "none")
SMOOTHING = 0.5  # alpha of `smooth=True`; the paper's default

Progress = Callable[[str, int, int], None]  # stage, how much is done, of how much


@dataclass(frozen=True)
class Options:
    """The keywords of `quantize_model`, which explains them.

    Raises:
        TypeError, ValueError: an option of another type, or one that does not exist; the message names it.
    """

    precision: str
    calibration_samples: int
    calibrator: str
    weight_clipping: str
    bias_correction: bool
    smooth: float | bool | None
    ignore: Sequence[Ignored]
    max_accuracy_drop: float | None
    never_slower: bool

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("calibrator", self.calibrator, CALIBRATORS)
        check_choice("weight_clipping", self.weight_clipping, CLIPPINGS)
        if self.calibration_samples < 1:
            raise ValueError(f"calibration_samples is {self.calibration_samples}; wanted at least 1")
        if self.smooth is not None and not 0 <= self.smooth <= 1:
            raise ValueError(f"smooth is {self.smooth}; wanted None, True or an alpha from 0 to 1")
        if isinstance(self.ignore, str):
            raise TypeError(f"ignore is the text {self.ignore!r}; wanted a sequence of names or patterns")
        if self.max_accuracy_drop is not None and self.precision != "mixed":
            raise ValueError(f'max_accuracy_drop goes with precision="mixed", not "{self.precision}"')
        if self.max_accuracy_drop is not None and not self.max_accuracy_drop >= 0:
            raise ValueError(f"max_accuracy_drop is {self.max_accuracy_drop}; wanted at least 0")

    @property
    def clipping(self) -> str:
        """The weight clipping, "auto" settled by what this CPU multiplies fastest."""
        from taille import _native

        return clipping_for(_native.active_isa()) if self.weight_clipping == "auto" else self.weight_clipping

    @property
    def alpha(self) -> float | None:
        """How much SmoothQuant moves from activations into weights; None: it is not asked for."""
        if self.smooth is None or self.smooth is False:
            return None
        return SMOOTHING if self.smooth is True else float(self.smooth)

    def step(self, samples: int) -> dict[str, Any]:
        """What the recipe records of that which was used: JSON-compatible; `samples` is how many there were."""
        common = {"step": "quantize", "precision": self.precision, "ignore": [text_of(i) for i in self.ignore]}
        if self.precision in HALF_PRECISIONS:
            return common
        return common | {
            "calibrator": self.calibrator, "calibration_samples": samples, "weight_clipping": self.clipping,
            "bias_correction": self.bias_correction, "smooth": self.alpha,
            "never_slower": self.never_slower,
        }  # fmt: skip


def clipping_for(isa: str) -> str:
    """The weight clipping that a CPU of this level multiplies fastest."""
    return "pairs" if isa == "avx2" else "mse"


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise a ValueError unless the option's value is one of these."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; there are {', '.join(choices)}")
