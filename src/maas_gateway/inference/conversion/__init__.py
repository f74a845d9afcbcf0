"""Turn an uploaded model, in a confined child, into a plan that the gateway can run by itself."""
