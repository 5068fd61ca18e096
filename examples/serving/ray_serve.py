"""An artefact behind Ray Serve: replicas on as many machines as the cluster has.

pip install 'taille[ray-serve]'
TAILLE_ARTEFACT=model.safetensors serve run ray_serve:application
curl localhost:8000/v2/models/model
"""

import os

from taille.serve import Settings
from taille.serve.ray import deployment

application = deployment(
    os.environ["TAILLE_ARTEFACT"],
    settings=Settings(max_batch=32, queue_size=256),
    num_replicas=2,
    ray_actor_options={"num_cpus": 1},  # and so many threads has each replica
)
