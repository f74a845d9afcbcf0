#!/bin/sh
# Triton's and KServe's own clients, by their hashes, in an environment of their own beside the one of `make`.
place=.venv/clients
wanted=tests/clients/requirements.txt
[ -e "$place/installed.txt" ] && cmp -s "$wanted" "$place/installed.txt" && exit 0
echo "Installing the clients of others that are tried against the gateway"
.venv/bin/python -m venv --clear "$place" &&
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r "$wanted" &&
  cp "$wanted" "$place/installed.txt" && exit 0
rm -rf "$place"
echo "They cannot be installed: their tests will be skipped. To enable them: sh tests/install_clients.sh"
