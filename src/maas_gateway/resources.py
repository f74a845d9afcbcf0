"""Files that travel with the package: `migrations/` and `config/`.

In a wheel they lie inside the package; in a checkout, at its top, two levels above.
"""

from importlib.resources import files
from pathlib import Path


def resource(name: str) -> Path:
    """Return the folder of that name.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    packed = Path(str(files("maas_gateway"))) / name
    checkout = packed.parents[2] / name
    for folder in (packed, checkout):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"this installation of maas-gateway lacks its folder '{name}'")
