"""The server that `server.py` compares with: FastAPI over ONNX Runtime, as their documentation shows it.

uvicorn.run with httptools and uvloop, as taille has them; an endpoint in JSON with pydantic models, in a thread of
FastAPI's pool since the session blocks; one that takes and gives the tensors' bytes.

python benchmarks/fastapi_onnxruntime.py MODEL.onnx PORT THREADS
"""

import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Inputs(BaseModel):
    inputs: list[Tensor]


class Outputs(BaseModel):
    model_name: str
    outputs: list[Tensor]


def make_app(path: str, threads: int) -> FastAPI:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    output = session.get_outputs()[0].name
    app = FastAPI()

    @app.post("/v2/models/mlp/infer")
    def infer(request: Inputs) -> Outputs:
        tensor = request.inputs[0]
        x = np.array(tensor.data, np.float32).reshape(tensor.shape)
        (y,) = session.run(None, {name: x})
        result = Tensor(name=output, shape=list(y.shape), datatype="FP32", data=y.ravel().tolist())
        return Outputs(model_name="mlp", outputs=[result])

    @app.post("/bytes")
    async def infer_bytes(request: Request) -> Response:
        x = np.frombuffer(await request.body(), np.float32).reshape(1, -1)
        (y,) = await run_in_threadpool(session.run, None, {name: x})
        return Response(y.tobytes(), media_type="application/octet-stream")

    return app


def main() -> None:
    path, port, threads = sys.argv[1:]
    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "http": "httptools", "loop": "uvloop"}
    uvicorn.run(make_app(path, int(threads)), host="127.0.0.1", port=int(port), **options)


if __name__ == "__main__":
    main()
