"""The seed network, trained in a confined child and handed over through a pipe.

Rule: this side imports no framework and no array library.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.conversation import ChildAnswer, ChildEvent
from maas_gateway.confinement.failure import ChildFailed, FailureKind
from maas_gateway.confinement.limits import Limits

N_FEATURES: Final = 30

_CHILD: Final = "maas_gateway.training.seed_child"
_LIMITS: Final = Limits()
_DEADLINE_S: Final = 300.0
_MAX_ARCHIVE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class EpochDone:
    """How far the training is.

    Attributes:
        epoch: the one just done, from 1.
        of: how many there are.
        loss: mean binary cross-entropy of the epoch.
        accuracy: share of training rows classified rightly, 0 to 1.
    """

    epoch: int
    of: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class TrainedSeed:
    """The seed network and what it is worth.

    Attributes:
        archive: a `.keras` file.
        accuracy: share of held-out rows classified rightly, 0 to 1.
        example: one held-out row, 30 numbers of four significant digits.
        expected: the model's probability, for that row, that the tumour is benign.
    """

    archive: bytes
    accuracy: float
    example: tuple[float, ...]
    expected: float


async def train_seed(
    on_progress: Callable[[EpochDone], None] | None = None, *, deadline_s: float = _DEADLINE_S
) -> TrainedSeed:
    """Train the seed network; about 8 s on two cores.

    Args:
        on_progress: called after each epoch.
        deadline_s: seconds from now.

    Raises:
        ChildFailed: the child gave no usable answer.
    """

    def tell(event: ChildEvent) -> None:
        if on_progress is not None:
            on_progress(_read_epoch(event.fields))

    answer = await run_child(
        _CHILD, limits=_LIMITS, deadline_s=deadline_s, on_progress=tell, max_answer_bytes=_MAX_ARCHIVE_BYTES
    )
    return _read(answer)


def _read_epoch(fields: Mapping[str, object]) -> EpochDone:
    return EpochDone(
        epoch=int(_number(fields, "epoch")),
        of=int(_number(fields, "of")),
        loss=_number(fields, "loss"),
        accuracy=_number(fields, "accuracy"),
    )


def _read(answer: ChildAnswer) -> TrainedSeed:
    example = answer.header.get("example")
    if not answer.payload or not isinstance(example, list) or len(example) != N_FEATURES:
        raise ChildFailed(FailureKind.PROTOCOL, "the child's answer holds no archive or no example")
    return TrainedSeed(
        archive=answer.payload,
        accuracy=_number(answer.header, "accuracy"),
        example=tuple(_number({"value": value}, "value") for value in example),
        expected=_number(answer.header, "expected"),
    )


def _number(fields: Mapping[str, object], name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ChildFailed(FailureKind.PROTOCOL, f"the child's answer holds no number '{name}'")
    return value
