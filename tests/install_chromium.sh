#!/bin/sh
# Chromium comes from the system's packages: installed here where this user may, named where not.
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing Chromium for the tests of the documentation page"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >/dev/null && apt-get install -y -qq --no-install-recommends chromium >/dev/null && exit 0
fi
echo "No Chromium: its tests will be skipped. To enable them: sudo apt-get install chromium"
