#!/bin/sh
# SoftHSM comes from the system's packages: installed here where this user may, named where not.
command -v softhsm2-util >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing SoftHSM for the tests of keys on a PKCS #11 token"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends softhsm2 >/dev/null && exit 0
fi
echo "No SoftHSM: its tests will be skipped. To enable them: sudo apt-get install softhsm2"
