"""`python -m maas_gateway`."""

from maas_gateway.cli.main import run

run()
