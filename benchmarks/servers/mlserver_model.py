"""A model of a few multiplications for MLServer, `mlserver start <folder of settings>`: names and shapes of the seed network."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Peer(MLModel):
    """Answers a row with its logistic sum."""

    async def load(self) -> bool:
        """Be ready."""
        self.weights = np.linspace(-1, 1, 30, dtype=np.float32)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        scores = (1 / (1 + np.exp(-(rows @ self.weights)))).astype(np.float32).reshape(-1, 1)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("score", scores)])
