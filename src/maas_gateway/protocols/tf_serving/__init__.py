"""TensorFlow Serving's RESTful API, `/v1/models`."""
