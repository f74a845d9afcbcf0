"""The statistics extension: what other people's programs ask of the numbers."""

import json

from maas_gateway.inference.statistics import Statistics
from maas_gateway.protocols.open_inference.statistics import write_statistics


def test_parts_of_computing_are_counted_as_often_as_each_other() -> None:
    counts = Statistics()
    counts.count_batch(3, 0.25)
    counts.ran.add(2, 0.5)
    (told,) = json.loads(write_statistics([("bc", 1, counts)]))["model_stats"]
    parts = ("compute_input", "compute_infer", "compute_output")
    assert [told["inference_stats"][part]["count"] for part in parts] == [2, 2, 2]
    assert [told["inference_stats"][part]["ns"] for part in parts] == [0, 500_000_000, 0]
    (batch,) = told["batch_stats"]
    assert [batch[part] for part in parts] == [
        {"count": 1, "ns": 0},
        {"count": 1, "ns": 250_000_000},
        {"count": 1, "ns": 0},
    ]
