#!/bin/sh
# A real OpenID Connect provider comes from npm: installed here into the environment where node is, named where not.
place=.venv/oidc-provider
[ -e "$place/node_modules/oidc-provider/package.json" ] && exit 0
if command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then
  echo "Installing oidc-provider for the tests of federation"
  mkdir -p "$place"
  # Node trusts its own list of certificates; a machine that has others has told everybody else by this variable.
  [ -n "${NODE_EXTRA_CA_CERTS:-}" ] || [ ! -e "${SSL_CERT_FILE:-}" ] || export NODE_EXTRA_CA_CERTS="$SSL_CERT_FILE"
  npm install --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --prefix "$place" \
    oidc-provider@9.13.3 >/dev/null 2>&1 && exit 0
  echo "No oidc-provider: its tests will be skipped. To enable them: sh tests/install_oidc_provider.sh"
  exit 0
fi
echo "No Node.js: the tests with oidc-provider will be skipped. To enable them: sudo apt-get install nodejs npm"
