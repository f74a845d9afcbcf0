"""The Open Inference Protocol over gRPC, with gRPC's own health checks and reflection."""
