"""An artefact behind BentoML, which collects requests to batches.

pip install taille bentoml
TAILLE_ARTEFACT=model.safetensors bentoml serve bentoml_service:Taille --port 3000
curl -d '{"x": [[1.0, 2.0, 3.0]]}' -H 'content-type: application/json' localhost:3000/predict
"""

import os

import bentoml
import numpy as np

import taille


@bentoml.service(workers=1)
class Taille:
    """One artefact of one input and one output whose first dimension is the batch."""

    def __init__(self) -> None:
        self.model = taille.load(os.environ["TAILLE_ARTEFACT"])
        self.dtype = self.model.input_spec[0].dtype

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=64, max_latency_ms=200)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Samples to outputs, in the same order."""
        return self.model.predict(np.asarray(x, self.dtype))
