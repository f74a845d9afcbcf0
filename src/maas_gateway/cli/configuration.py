"""From the command line's options to the configuration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maas_gateway.settings import DELIMITER, PREFIX, Settings, load_settings

_PLACES = {
    "data_dir": ("data_dir",),
    "host": ("http", "host"),
    "port": ("http", "port"),
    "workers": ("http", "workers"),
}


def configured(config: Path | None, options: Mapping[str, Any]) -> Settings:
    """Return the configuration with the options that were given laid over it.

    Raises:
        Misconfigured: the configuration is wrong.
    """
    over: dict[str, Any] = {}
    for name, value in options.items():
        if value is not None:
            *groups, last = _PLACES[name]
            place = over
            for group in groups:
                place = place.setdefault(group, {})
            place[last] = value
    return load_settings(config, over)


def hand_down(config: Path | None, settings: Settings) -> None:
    """Put into the environment what worker processes need to come to the same configuration."""
    values = {
        "CONFIG": None if config is None else str(config.resolve()),
        "DATA_DIR": str(settings.data_dir.resolve()),
        f"HTTP{DELIMITER}HOST": settings.http.host,
        f"HTTP{DELIMITER}PORT": str(settings.http.port),
        f"HTTP{DELIMITER}WORKERS": str(settings.http.workers),
    }
    for name, value in values.items():
        if value is not None:
            os.environ[PREFIX + name] = value  # noqa: TID251  written for child processes, not read
