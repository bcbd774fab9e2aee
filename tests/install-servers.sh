#!/bin/sh
# Installs the servers that the tests start, where that is permitted; otherwise says what is missing.
# redis-server goes where the system has its programs; the others into a folder of their own, beside the system.
servers=${LDREADER_SERVERS:-$HOME/.cache/ldreader-servers}
missing=

has() { command -v "$1" >/dev/null; }

if [ "$(id -u)" = 0 ]; then
  as_root=env
elif sudo -n true 2>/dev/null; then
  as_root="sudo -n env"
else
  as_root=
fi

install_redis() {
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
  fi
}

has_chromium() { has chromium || has chromium-browser; }

install_chromium() {
  if has apt-get && [ -n "$as_root" ]; then
    $as_root apt-get update -qq
    $as_root DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium
  fi
}

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
  install_redis >&2
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
  install_chromium >&2
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

[ -z "$missing" ] && exit 0
echo "Without them the tests that need them are skipped (with LDREADER_REQUIRE_SERVERS=1 they fail)." >&2
[ "$LDREADER_REQUIRE_SERVERS" != 1 ]
