"""Conversions with what they sent: the answer's plans by runtime."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from maas_gateway.inference.conversion.answer import Conversion, ConvertedPlan
from maas_gateway.inference.conversion.convert import convert


@dataclass(frozen=True)
class WholeConversion:
    """A conversion, and all that the child sent.

    Attributes:
        conversion: what the real converter made of an upload.
        payload: the plans' contents, one after another.
    """

    conversion: Conversion
    payload: bytes

    @property
    def plans(self) -> Mapping[str, ConvertedPlan]:
        """The plans by runtime."""
        return {plan.runtime: plan for plan in self.conversion.plans}

    def content(self, runtime: str) -> bytes:
        """Return what a plan consists of."""
        plan = self.plans[runtime]
        return self.payload[plan.offset : plan.offset + plan.n_bytes]

    def with_tail(self, tail: bytes) -> "WholeConversion":
        """Return the same with bytes behind the last plan."""
        *plans, last = self.conversion.plans
        longer = replace(last, n_bytes=last.n_bytes + len(tail))
        return WholeConversion(replace(self.conversion, plans=(*plans, longer)), self.payload + tail)

    @classmethod
    def from_json(cls, conversion: Mapping[str, Any], payload: bytes) -> "WholeConversion":
        """Read what `dataclasses.asdict` made of a conversion, once it was JSON."""
        plans = [
            ConvertedPlan(
                **plan | {"input_order": tuple(plan["input_order"]), "output_order": tuple(plan["output_order"])}
            )
            for plan in conversion["plans"]
        ]
        read = {**conversion, "plans": tuple(plans), "notes": tuple(conversion["notes"])}
        return cls(Conversion(**read), payload)


async def converted(form: str, upload: bytes, *, size_bytes: int | None = None, **more: Any) -> WholeConversion:
    """Run the real converter and keep what it sends."""
    payload = bytearray()

    async def keep(piece: bytes) -> None:
        payload.extend(piece)

    size_bytes = len(upload) if size_bytes is None else size_bytes
    conversion = await convert(form, pieces(upload), size_bytes=size_bytes, sink=keep, **more)
    return WholeConversion(conversion, bytes(payload))


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """Give out bytes piece by piece, as a door does."""
    for start in range(0, len(content), size):
        await asyncio.sleep(0)
        yield content[start : start + size]
