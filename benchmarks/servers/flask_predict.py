"""The peer: Flask in front of `model.predict`, as tutorials serve a Keras model; run in its own environment.

python flask_predict.py ARCHIVE.keras PORT
"""

import sys

import keras  # noqa: TID253  a program of its own, in an environment of its own
import numpy as np
import waitress
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
model = keras.models.load_model(sys.argv[1])


@app.get("/")
def ready() -> Response:
    """Say that the model is loaded."""
    return jsonify({})


@app.post("/predict")
def predict() -> Response:
    """Answer one request."""
    rows = np.array(request.get_json()["instances"], dtype=np.float32)
    return jsonify({"predictions": model.predict(rows, verbose=0).tolist()})


if __name__ == "__main__":
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[2]), threads=4)
