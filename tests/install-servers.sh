#!/bin/sh
# Installs the servers that the tests start, where that is permitted; otherwise says what is missing.
# redis-server goes where the system has its programs; the others into a folder of their own, beside the system.
servers=${LDREADER_SERVERS:-$HOME/.cache/ldreader-servers}
missing=

has() { command -v "$1" >/dev/null; }

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env "$@"
  else
    sudo -n env "$@"
  fi
}

# Installs a program where that is permitted: the package's name, and Debian's if it is another.
install_package() {
  if has brew; then
    brew install --quiet "$1"
  elif ! as_root true 2>/dev/null; then
    :
  elif has apt-get; then
    as_root apt-get update -qq
    as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${2:-$1}"
  elif has dnf; then
    as_root dnf install -q -y "$1"
  elif has apk; then
    as_root apk add -q "$1"
  fi
}

has_chromium() { has chromium || has chromium-browser; }

has_lighttpd() { has lighttpd || [ -x /usr/sbin/lighttpd ] || [ -x "$servers/lighttpd/usr/sbin/lighttpd" ]; }

# Its package is unpacked, not installed: else a web server would run from now on. What it needs is in any Debian.
install_lighttpd() (
  has apt-get && has dpkg || exit
  work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work" || exit
  apt-get -o APT::Sandbox::User="$(id -un)" download -qq lighttpd || {
    as_root apt-get update -qq
    apt-get -o APT::Sandbox::User="$(id -un)" download -qq lighttpd || exit
  }
  dpkg -x lighttpd_*.deb unpacked && mkdir -p "$servers" && mv unpacked "$servers/lighttpd"
)

has_consul() { has consul || [ -x "$servers/consul/usr/bin/consul" ]; }

# Debian had Consul until bullseye. Its package is unpacked, not installed: nothing of the system changes.
install_consul() (
  has apt-get && has dpkg || exit
  work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && cd "$work" || exit
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sort -u | head -n 1)
  [ -n "$archive" ] || exit
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -e "$keyring" ] && signed="[signed-by=$keyring]"
  mkdir -p lists/partial cache/archives/partial
  for suite in bullseye sid; do
    echo "deb $signed $archive $suite main" >sources.list
    set -- -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
      -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)"
    apt-get "$@" update -qq && apt-get "$@" download -qq consul && break
  done
  dpkg -x consul_*.deb unpacked && mkdir -p "$servers" && mv unpacked "$servers/consul"
)

has_dynamodb() {
  { has java && ls "$servers"/dynamodb-local/DynamoDBLocal-*.jar; } >/dev/null 2>&1 ||
    { has node && [ -e "$servers/dynalite/node_modules/dynalite/cli.js" ]; }
}

install_dynamodb_local() (
  has java && has mvn || exit
  work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT || exit
  cat >"$work/pom.xml" <<'POM'
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>ldreader</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>com.amazonaws</groupId><artifactId>DynamoDBLocal</artifactId><version>2.6.1</version></dependency>
  </dependencies>
</project>
POM
  mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" &&
    mkdir -p "$servers" && mv "$work/jars" "$servers/dynamodb-local"
)

install_dynalite() {
  has node && has npm || return
  npm install --silent --no-fund --no-audit --prefix "$servers/dynalite" dynalite@4
}

if ! has redis-server; then
  echo "redis-server is missing; trying to install it" >&2
  install_package redis redis-server >&2
  has redis-server || {
    echo "redis-server could not be installed here: install your system's package, called redis-server or redis." >&2
    missing=1
  }
fi

if ! has_consul; then
  echo "consul is missing; trying to install it" >&2
  install_consul >&2
  has_consul || {
    echo "consul could not be installed here: put HashiCorp's program on the PATH." >&2
    missing=1
  }
fi

if ! has_chromium; then
  echo "chromium is missing; trying to install it" >&2
  install_package chromium >&2
  has_chromium || {
    echo "chromium could not be installed here: install your system's package." >&2
    missing=1
  }
fi

if ! has_dynamodb && { { has java && has mvn; } || has npm; }; then
  echo "a second DynamoDB is missing; trying to install one" >&2
  { install_dynamodb_local || install_dynalite; } >&2
  has_dynamodb || {
    echo "neither DynamoDB Local (Java, Maven) nor dynalite (Node.js) could be installed here." >&2
    missing=1
  }
fi

for program in busybox zsh fish; do
  has $program || {
    echo "$program is missing; trying to install it" >&2
    install_package $program >&2
    has $program || {
      echo "$program could not be installed here: install your system's package of that name." >&2
      missing=1
    }
  }
done

if ! has_lighttpd; then
  echo "lighttpd is missing; trying to install it" >&2
  install_lighttpd >&2
  has_lighttpd || {
    echo "lighttpd could not be installed here: install your system's package of that name." >&2
    missing=1
  }
fi

[ -z "$missing" ] && exit 0
echo "Without them the tests that need them are skipped (with LDREADER_REQUIRE_SERVERS=1 they fail)." >&2
[ "$LDREADER_REQUIRE_SERVERS" != 1 ]
