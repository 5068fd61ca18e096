"""ONNX Runtime: float32, int8 with static ranges, int8 with ranges found at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taille.arrays import Array
from taille.bench.subject import Subject, quiet
from taille.samples import Feed

__all__ = ["CONTESTANTS", "OrtDynamic", "OrtFloat", "OrtStatic"]


class OrtFloat:
    """ONNX Runtime in float32, with all its graph optimisations."""

    name = "onnxruntime float32"
    precision = "float32"
    packages: tuple[str, ...] = ("onnxruntime", "onnx", "onnxscript")
    note = ""
    size_bytes = 0

    def unsuited(self, subject: Subject) -> str:  # noqa: ARG002 - of the protocol
        """Takes part with every model."""
        return ""

    def prepare(self, subject: Subject, threads: int) -> None:
        """Make the file and open a session."""
        import onnxruntime

        path = subject.onnx
        with quiet():
            path = self.convert(subject, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.size_bytes = path.stat().st_size

    def convert(self, subject: Subject, path: Path) -> Path:  # noqa: ARG002 - of the classes below
        """The file to open, made from the float32 one."""
        return path

    def run(self, inputs: Feed) -> list[Array]:
        """One run of the session."""
        return list(self._session.run(None, inputs))


class OrtStatic(OrtFloat):
    """QDQ with weights per channel and ranges from the calibration batches."""

    name = "onnxruntime int8 static"
    precision = "int8"

    def unsuited(self, subject: Subject) -> str:
        """Needs calibration data."""
        return "" if subject.calibration else "the model has no calibration_data"

    def convert(self, subject: Subject, path: Path) -> Path:
        """Quantise: uint8 activations and int8 weights, the quicker pair on x86-64."""
        from onnxruntime import quantization

        target = subject.folder / "static.onnx"
        quantization.quantize_static(
            str(preprocessed(subject, path)), str(target), Reader(subject.calibration),
            quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
        )  # fmt: skip
        return target


class OrtDynamic(OrtFloat):
    """Matrix products in int8, with the ranges of activations found in every run."""

    name = "onnxruntime int8 dynamic"
    precision = "int8"

    def unsuited(self, subject: Subject) -> str:
        """Not for convolutions."""
        return "dynamic quantisation is for models of linear layers" if subject.has_convolutions else ""

    def convert(self, subject: Subject, path: Path) -> Path:
        """Quantise the weights."""
        from onnxruntime import quantization

        target = subject.folder / "dynamic.onnx"
        source = preprocessed(subject, path)
        kind: Any = quantization.QuantType.QInt8
        quantization.quantize_dynamic(str(source), str(target), per_channel=True, weight_type=kind)
        return target


class Reader:
    """Calibration batches as ONNX Runtime asks for them."""

    def __init__(self, feeds: list[Feed]):
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        """The next batch, None after the last."""
        return next(self._feeds, None)


def preprocessed(subject: Subject, path: Path) -> Path:
    """The file with shapes inferred and its graph optimised, as ONNX Runtime asks for before quantising."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target = subject.folder / "preprocessed.onnx"
    if not target.exists():
        quant_pre_process(str(path), str(target))
    return target


CONTESTANTS = (OrtFloat, OrtStatic, OrtDynamic)
