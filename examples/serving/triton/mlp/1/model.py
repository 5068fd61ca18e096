"""An artefact as a model of Triton's Python backend: put it beside this file as `model.safetensors`.

pip install taille    # in Triton's container
tritonserver --model-repository examples/serving/triton
"""

from pathlib import Path

import triton_python_backend_utils as triton

import taille


class TritonPythonModel:
    """Any artefact; `config.pbtxt` names its inputs and outputs as `taille inspect` shows them."""

    def initialize(self, args):
        """Load the version that Triton asks for."""
        folder = Path(args["model_repository"]) / args["model_version"]
        self.model = taille.load(folder / "model.safetensors", threads=1)
        self.inputs = [spec.name for spec in self.model.input_spec]
        self.outputs = [spec.name for spec in self.model.output_spec]

    def execute(self, requests):
        """One response per request, an error instead where its inputs do not fit."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """The response to one request."""
        try:
            given = {name: triton.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            result = self.model.predict(given)
        except (TypeError, ValueError) as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))
        values = result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else (result,)
        tensors = [triton.Tensor(name, value) for name, value in zip(self.outputs, values, strict=True)]
        return triton.InferenceResponse(output_tensors=tensors)

    def finalize(self):
        """Let go of the model."""
        self.model = None
