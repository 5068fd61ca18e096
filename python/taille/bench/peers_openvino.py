"""OpenVINO in float32, and quantised by NNCF."""

from __future__ import annotations

from collections import Counter
from typing import Any

from taille.arrays import Array
from taille.bench.subject import Subject, quiet
from taille.samples import Feed

__all__ = ["CONTESTANTS", "OpenVinoFloat", "OpenVinoInt8"]


class OpenVinoFloat:
    """OpenVINO in float32, tuned for latency."""

    hint = "LATENCY"
    name = "openvino float32"
    precision = "float32"
    packages: tuple[str, ...] = ("openvino", "onnx", "onnxscript")
    note = ""
    size_bytes = 0

    def unsuited(self, subject: Subject) -> str:  # noqa: ARG002 - of the protocol
        """Takes part with every model."""
        return ""

    def prepare(self, subject: Subject, threads: int) -> None:
        """Convert, write the files for their size, compile."""
        import openvino

        path = subject.onnx
        with quiet():
            model = self.convert(subject, openvino.convert_model(str(path)))
            files = subject.folder / f"openvino-{self.precision}.xml"
            openvino.save_model(model, str(files), compress_to_fp16=False)
            compiled = openvino.Core().compile_model(
                model, "CPU",
                {"PERFORMANCE_HINT": self.hint, "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"},
            )  # fmt: skip
        self.size_bytes = files.stat().st_size + files.with_suffix(".bin").stat().st_size
        self.compiled = compiled
        self._request = compiled.create_infer_request()
        self.note = kernels(compiled)

    def convert(self, subject: Subject, model: Any) -> Any:  # noqa: ARG002 - of the class below
        """The model to compile, made from the float32 one."""
        return model

    def run(self, inputs: Feed) -> list[Array]:
        """One inference, without copies."""
        return list(self._request.infer(inputs, share_inputs=True, share_outputs=True).values())


class OpenVinoInt8(OpenVinoFloat):
    """Quantised by `nncf.quantize` on the calibration batches."""

    name = "openvino int8 (nncf)"
    precision = "int8"
    packages = (*OpenVinoFloat.packages, "nncf")

    def unsuited(self, subject: Subject) -> str:
        """Needs calibration data."""
        return "" if subject.calibration else "the model has no calibration_data"

    def convert(self, subject: Subject, model: Any) -> Any:
        """Quantise; transformers have a scheme of their own."""
        import nncf

        scheme = nncf.ModelType.TRANSFORMER if subject.is_transformer else None
        feeds = nncf.Dataset(subject.calibration)
        return nncf.quantize(model, feeds, model_type=scheme, subset_size=len(subject.calibration))


def kernels(compiled: Any) -> str:
    """Which matrix and convolution kernels were chosen, by how often."""
    names: Counter[str] = Counter()
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if "primitiveType" in facts:
            names[str(facts["primitiveType"].value)] += 1
    heavy = [f"{count} {name}" for name, count in names.most_common() if name.startswith(("brg", "jit_gemm", "gemm"))]
    return ", ".join(heavy[:3])


CONTESTANTS = (OpenVinoFloat, OpenVinoInt8)
