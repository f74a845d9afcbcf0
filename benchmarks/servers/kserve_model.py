"""A model of a few multiplications at KServe's own server: the names and shapes of the gateway's seed network.

python kserve_model.py <HTTP port> <gRPC port>
"""

import logging
import sys

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Peer(Model):
    """Answers a row with its logistic sum."""

    def load(self) -> bool:
        """Be ready."""
        self.weights = np.linspace(-1, 1, 30, dtype=np.float32)
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, *_given: object, **_named: object) -> InferResponse:
        """Answer one request."""
        rows = payload.inputs[0].as_numpy()
        scores = (1 / (1 + np.exp(-(rows @ self.weights)))).astype(np.float32).reshape(-1, 1)
        output = InferOutput("score", list(scores.shape), "FP32")
        output.set_data_from_numpy(scores, binary_data=True)
        return InferResponse(payload.id or "1", self.name, [output])


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    model = Peer("breast-cancer")
    model.load()
    ModelServer(
        http_port=int(sys.argv[1]), grpc_port=int(sys.argv[2]), workers=1, access_log_format="", enable_docs_url=False
    ).start([model])
