"""An artefact behind LitServe, which collects requests to batches.

pip install taille litserve
TAILLE_ARTEFACT=model.safetensors python litserve_server.py 8000
curl -d '{"x": [1.0, 2.0, 3.0]}' -H 'content-type: application/json' localhost:8000/predict
"""

import os
import sys

import litserve
import numpy as np

import taille


class TailleAPI(litserve.LitAPI):
    """One artefact of one input and one output whose first dimension is the batch; a request is one sample."""

    def setup(self, device):  # noqa: ARG002 - of LitServe's interface
        """Load in the worker: LitServe starts processes."""
        self.model = taille.load(os.environ["TAILLE_ARTEFACT"])
        self.dtype = self.model.input_spec[0].dtype

    def decode_request(self, request):
        """JSON to an array."""
        return np.asarray(request["x"], self.dtype)

    def batch(self, inputs):
        """Samples to a batch."""
        return np.stack(inputs)

    def predict(self, x):
        """One call for the whole batch."""
        return self.model.predict(x)

    def unbatch(self, output):
        """A batch to samples."""
        return list(output)

    def encode_response(self, output):
        """An array to JSON."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = TailleAPI(max_batch_size=64, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False)
