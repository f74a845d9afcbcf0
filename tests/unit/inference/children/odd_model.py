"""A process that loads nothing and answers what the first number of a call names: material for the tests of `process`."""

import sys
import time

import numpy as np

from maas_gateway.confinement.channel import Channel

SAYS = {
    1.0: ({"arrays": [["FP32", [1, 2], 8]]}, b"\0" * 8),  # what it should
    2.0: ({"arrays": [["FP32", [1, 3], 12]]}, b"\0" * 12),
    3.0: ({"arrays": [["FP64", [1, 2], 16]]}, b"\0" * 16),
    4.0: ({"arrays": [["FP32", [1, 2], 8]]}, b"\0" * 4),
    5.0: ({"arrays": [["FP32", [1, 2], 8]]}, b"\0" * 9),
    6.0: ({"arrays": []}, b""),
    7.0: ({}, b""),
    8.0: ({"refused": "see /etc/passwd, <b>secret</b>"}, b""),
    9.0: ({"refused": 7, "arrays": [["FP32", [1, 2], 8]]}, b"\0" * 8),
}


def serve(channel: Channel) -> None:
    """Take any plan; `begins` names what is said of it."""
    plan = b"".join(channel.request())
    match channel.arguments["runtime"]:
        case "refuses":
            channel.answer({"refused": "it is \x1b[31mno model\n at /etc/passwd\nsecret"})
            return
        case "hangs":
            time.sleep(60)
        case "eats":
            eaten = [bytearray(1 << 26) for _ in range(100)]
            sys.stderr.write(str(len(eaten)))
        case "dies":
            raise RuntimeError("secret words")
    channel.answer({"n_bytes": len(plan)})
    for _, payload in channel.calls():
        number = float(np.frombuffer(payload, np.float32)[0])
        if number == 10.0:
            eaten = [bytearray(1 << 26) for _ in range(100)]
        if number == 11.0:
            raise RuntimeError("secret words")
        channel.answer(*SAYS[number])
