"""Every hostile Keras file of the suite (security.md 2.1 and 2.3)."""

from typing import Final

from builders.hostile_keras_archives import ARCHIVES
from builders.hostile_keras_code import CODE
from builders.hostile_keras_weights import WEIGHTS

HOSTILE: Final = (*CODE, *WEIGHTS, *ARCHIVES)
