#!/bin/sh
# Installs the servers that the tests start, where that is permitted; otherwise says what is missing.
command -v redis-server >/dev/null && exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=env
elif sudo -n true 2>/dev/null; then
  as_root="sudo -n env"
else
  as_root=
fi

has() { command -v "$1" >/dev/null; }

echo "redis-server is missing; trying to install it" >&2
if has brew; then
  brew install --quiet redis
elif [ -z "$as_root" ]; then
  :
elif has apt-get; then
  $as_root apt-get update -qq
  $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y redis-server
elif has dnf; then
  $as_root dnf install -q -y redis
elif has apk; then
  $as_root apk add -q redis
fi >&2

command -v redis-server >/dev/null && exit 0
echo "redis-server could not be installed here: install your system's package, called redis-server or redis." >&2
echo "Without it the tests that need it are skipped (with LDREADER_REQUIRE_SERVERS=1 they fail)." >&2
[ "$LDREADER_REQUIRE_SERVERS" != 1 ]
