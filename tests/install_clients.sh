#!/bin/sh
# Clients that others wrote (all of them, or those that `make test` tries), by their hashes, in environments of their own beside the one of `make`.
pins=tests/clients
pip="--quiet --disable-pip-version-check --only-binary=:all: --require-hashes"

# A Python environment: its place, its pins.
make_environment() {
  [ -e "$1/installed.txt" ] && cmp -s "$2" "$1/installed.txt" && return 0
  echo "Installing clients that are tried against the gateway: $2"
  .venv/bin/python -m venv --clear "$1" &&
    "$1/bin/python" -m pip install $pip -r "$2" && cp "$2" "$1/installed.txt" && return 0
  not_here "$1"
}

# Packages in a folder of their own, without what they depend on: its place, its pins.
make_folder() {
  [ -e "$1/installed.txt" ] && cmp -s "$2" "$1/installed.txt" && return 0
  echo "Installing clients that are tried against the gateway: $2"
  rm -rf "$1"
  .venv/bin/python -m pip install $pip --no-deps --target "$1" -r "$2" && cp "$2" "$1/installed.txt" && return 0
  not_here "$1"
}

not_here() {
  rm -rf "$1"
  echo "They cannot be installed: their tests will be skipped. To enable them: sh tests/install_clients.sh all"
}

make_environment .venv/clients "$pins/requirements.txt"
[ "${1-}" = all ] || exit 0 # the rest is for `make test-slow`
# MLServer holds FastAPI and Starlette below what KServe has.
make_environment .venv/clients-mlserver "$pins/requirements_mlserver.txt"
# TensorFlow Serving's messages need TensorFlow, which the environment of `make` has.
make_folder .venv/clients-tf-serving "$pins/requirements_tf_serving.txt"
# perf_analyzer is a program in one old wheel; it needs one library of the system's packages.
make_folder .venv/clients-perf "$pins/requirements_perf.txt"
if [ -e .venv/clients-perf ] && ! ldconfig -p | grep -q 'libb64\.so\.0d'; then
  export DEBIAN_FRONTEND=noninteractive
  { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && apt-get update -qq >/dev/null &&
    apt-get install -y -qq --no-install-recommends libb64-0d >/dev/null; } ||
    echo "No libb64: the test of perf_analyzer will be skipped. To enable it: sudo apt-get install libb64-0d"
fi
exit 0
