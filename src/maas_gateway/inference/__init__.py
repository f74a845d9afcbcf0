"""From a servable's tensors to its answer: runtimes, where they run, and requests run together."""
