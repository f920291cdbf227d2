# shellcheck shell=bash
# Functions shared by the scripts of hack/ and .ci/run; to be sourced.
#
# The scripts may start as root (a container, a CI machine) or as an ordinary user with sudo. Programs are installed as
# root; all else, the build and the tests too, is done by an ordinary user: the caller, or $TEST_USER where the caller is root.

set -euo pipefail
umask 022            # files of the tree, of base images and of the tests have usual modes, whatever the caller's umask is
export LC_ALL=C.UTF-8 # programs print the messages that the scripts and the tests read

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TEST_USER=${TEST_USER:-rbuild-test}
BOOTSTRAP_OPTIONS=()
NOSUB_USER=rbuild-nosub # an ordinary user that has no subordinate ids
TAGS=containers_image_openpgp,exclude_graphdriver_btrfs
# What another user's programs must be told to reach the network as the caller does.
PASS_ENV=(http_proxy https_proxy ftp_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY NO_PROXY ALL_PROXY
  SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO LANG LC_ALL TERM CI)
GO_ENV=(GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE GOINSECURE GOFLAGS)

say() { printf '%s\n' "== $*" >&2; }
die() { printf '%s\n' "error: $*" >&2; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# as_root COMMAND... runs it as root.
as_root() {
  if is_root; then "$@"; return; fi
  command -v sudo >/dev/null || die "root is needed for: $* (run this as root, or install sudo)"
  sudo -- "$@"
}

# need PACKAGE... installs those Debian packages that are missing.
need() {
  local p missing=()
  for p in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "install these first (no apt-get here): ${missing[*]}"
  say "installing ${missing[*]}"
  apt_install "${missing[@]}"
  case " ${missing[*]} " in *" docker-registry "*) stop_service docker-registry ;; esac
}

apt_install() {
  local log
  log=$(mktemp)
  if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    die "apt-get could not install: $*"
  fi
  rm -f "$log"
}

# stop_service NAME stops a service that its package has just started: the scripts start their own.
stop_service() {
  if [ -d /run/systemd/system ]; then as_root systemctl disable --now "$1" >/dev/null 2>&1 || true; fi
}

# ---------------------------------------------------------------------------------------------------------------- Go
go_wanted() { awk '$1 == "go" { print $2; exit }' "$ROOT/go.mod"; }

# find_go prints the newest Go program among the usual places; nothing if there is none.
find_go() {
  local g
  for g in $(command -v go || true) /usr/local/go/bin/go /usr/lib/go/bin/go "$(toolchain_dir)/bin/go"; do
    [ -x "$g" ] || continue
    printf '%s %s\n' "$(cd / && GOTOOLCHAIN=local "$g" env GOVERSION | sed 's/^go//')" "$g"
  done | sort -V | tail -n 1
}

toolchain_dir() { printf '/usr/local/lib/rbuild-go/go%s' "$(go_wanted)"; }

# ensure_go sets GO to a Go that is new enough. Without one, Debian's older Go fetches it, checked against the checksum
# database, by the way in which the go command fetches its own toolchains.
ensure_go() {
  local have version
  have=$(find_go)
  version=${have%% *}
  if [ -z "$have" ] || ! newer_or_equal "$version" "$(go_wanted)"; then
    install_toolchain
    have=$(find_go)
  fi
  GO=${have#* }
}

newer_or_equal() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

install_toolchain() {
  local old=go dir module
  module="golang.org/toolchain@v0.0.1-go$(go_wanted).linux-$(dpkg --print-architecture)"
  command -v go >/dev/null || need golang-go ca-certificates
  say "fetching Go $(go_wanted)"
  dir=$(mktemp -d)
  (
    cd "$dir"
    printf 'module fetch\n\ngo 1.19\n' >go.mod
    GOTOOLCHAIN=local GOMODCACHE="$dir/mod" GOFLAGS=-modcacherw $old mod download "$module"
    chmod -R a+rX "mod/$module"
    chmod a+x "mod/$module"/bin/* "mod/$module"/pkg/tool/*/*
    as_root mkdir -p "$(dirname "$(toolchain_dir)")"
    as_root rm -rf "$(toolchain_dir)"
    as_root cp -r "mod/$module" "$(toolchain_dir)"
  )
  rm -rf "$dir"
}

# go_settings prints the caller's settings for the go command as NAME=VALUE lines.
go_settings() {
  local k v
  for k in "${GO_ENV[@]}"; do
    v=$(cd / && "$GO" env "$k")
    [ -z "$v" ] || printf '%s=%s\n' "$k" "$v"
  done
}

# -------------------------------------------------------------------------------------------------------------- user
# ensure_user sets RUN_USER, the ordinary user that builds and tests, with RUN_HOME and USER_PREFIX; makes it if the caller
# is root. To be called after ensure_go.
ensure_user() {
  need uidmap
  if is_root; then
    RUN_USER=$TEST_USER
    id "$RUN_USER" >/dev/null 2>&1 || make_user "$RUN_USER"
  else
    RUN_USER=$(id -un)
  fi
  ensure_subids /etc/subuid --add-subuids
  ensure_subids /etc/subgid --add-subgids
  RUN_HOME=$(getent passwd "$RUN_USER" | cut -d: -f6)
  prefix "$RUN_USER"
  USER_PREFIX=("${PREFIX[@]}")
}

# make_user NAME makes an ordinary user whose files others may read.
make_user() { as_root useradd --create-home --shell /bin/bash -K HOME_MODE=0755 "$1"; }

# ensure_subids FILE OPTION gives RUN_USER 65536 ids above all that FILE has given out.
ensure_subids() {
  local start
  ! grep -qs "^$RUN_USER:" "$1" || return 0
  start=$(awk -F: 'BEGIN { n = 100000 } $2 + $3 > n { n = $2 + $3 } END { print n }' "$1" 2>/dev/null || echo 100000)
  as_root usermod "$2" "$start-$((start + 65535))" "$RUN_USER"
}

# ensure_nosub_user makes NOSUB_USER (a system user is given no subordinate ids).
ensure_nosub_user() {
  id "$NOSUB_USER" >/dev/null 2>&1 || as_root useradd --system --create-home --shell /bin/bash "$NOSUB_USER"
}

# runtime_dir USER prints a directory for XDG_RUNTIME_DIR that belongs to USER alone; makes it if the caller is root.
runtime_dir() {
  local uid dir
  uid=$(id -u "$1")
  dir=/run/user/$uid
  if [ -d "$dir" ] && [ "$(stat -c %u "$dir")" = "$uid" ]; then printf '%s' "$dir"; return; fi
  if is_root; then
    install -d -m 755 /run/user
    install -d -m 700 -o "$1" -g "$(id -gn "$1")" "$dir"
  else
    dir=$HOME/.cache/rbuild-test/run
    mkdir -p "$dir" && chmod 700 "$dir"
  fi
  printf '%s' "$dir"
}

# prefix USER sets PREFIX to what, put before a command, runs it as USER in a clean environment, in the same process.
# As an ordinary user USER must be the caller.
prefix() {
  local user=$1 home path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin k
  home=$(getent passwd "$user" | cut -d: -f6)
  PREFIX=()
  ! is_root || PREFIX=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups --inh-caps=-all --)
  # A caller in the background, or below nohup, ignores signals, and every program that it starts does so too.
  PREFIX+=(env -i --default-signal)
  for k in "${PASS_ENV[@]}"; do
    [ -z "${!k:-}" ] || PREFIX+=("$k=${!k}")
  done
  if [ -n "${GO:-}" ]; then
    path=$(dirname "$GO"):$path
    while IFS= read -r k; do PREFIX+=("$k"); done < <(go_settings)
  fi
  PREFIX+=("HOME=$home" "USER=$user" "LOGNAME=$user" SHELL=/bin/bash "XDG_RUNTIME_DIR=$(runtime_dir "$user")" "PATH=$path")
}

# run_as_user COMMAND... runs it as RUN_USER.
run_as_user() { "${USER_PREFIX[@]}" "$@" 9>&-; } # without the lock of own_tree

# end_process PID ends a process that this shell has started: by SIGTERM, and by SIGKILL after ten seconds.
end_process() {
  kill "$1" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# state_dir prints the directory where RUN_USER keeps what is good for the next run too.
state_dir() { printf '%s/.cache/rbuild-test' "$RUN_HOME"; }

# own_tree sets TREE to a copy of the source tree that belongs to RUN_USER, or to the tree itself if it does already. The
# copy is this process's and its children's until it ends: another run waits.
own_tree() {
  TREE=$ROOT
  is_root || return 0
  TREE=$(state_dir)/src
  run_as_user mkdir -p "$TREE"
  exec 9>"$(state_dir)/lock"
  flock -n 9 || { say "waiting for another run to end" && flock 9; }
  run_as_user chmod -R u+w "$TREE"
  run_as_user rm -rf "$TREE"
  run_as_user mkdir -p "$TREE"
  (cd "$ROOT" && tar -c --exclude=./.git --exclude=./bin .) | run_as_user tar -x -C "$TREE" --no-same-owner
}

# version prints what the binary calls itself.
version() { git -c safe.directory="$ROOT" -C "$ROOT" describe --tags --always --dirty 2>/dev/null || echo unknown; }

# build TREE builds TREE/bin/rbuild as RUN_USER.
build() {
  say "building rbuild"
  run_as_user env -C "$1" CGO_ENABLED=0 GOTOOLCHAIN=local "$GO" build -tags "$TAGS" -trimpath \
    -ldflags "-X main.version=$(version)" -o bin/rbuild ./cmd/rbuild
}

# compile_tests TREE PACKAGE FILE compiles a package's tests, static, as RUN_USER.
compile_tests() {
  run_as_user env -C "$1" CGO_ENABLED=0 GOTOOLCHAIN=local "$GO" test -c -tags "$TAGS" -o "$3" "$2"
}

# ------------------------------------------------------------------------------------------------------- base images
# apt_settings prints options for mmdebstrap: the host's ways to reach its packages.
apt_settings() {
  local line
  while IFS= read -r line; do
    printf -- '--aptopt=%s\n' "$line"
  done < <(apt-config dump | grep -E '^Acquire::(https?::(Proxy|Verify|CAInfo)[^ ]*|Check-(Valid-Until|Date)) ' || true)
  [ ! -s /etc/ssl/certs/ca-certificates.crt ] || printf -- '%s\n' \
    '--customize-hook=upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt'
}

# apt_sources SUITE prints the host's own sources if they are Debian's SUITE, else nothing (mmdebstrap's default then).
apt_sources() {
  local f
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [ -f "$f" ] && grep -qE "^(deb .*[[:space:]]|Suites:.*[[:space:]])$1([[:space:]]|\$)" "$f" && printf '%s\n' "$f"
  done
  return 0
}

# bootstrap SUITE TAR [PACKAGE...] makes a root filesystem from Debian's packages, as RUN_USER. BOOTSTRAP_OPTIONS, if set, are
# further options of mmdebstrap.
bootstrap() {
  local suite=$1 tar=$2 include=ca-certificates options sources p
  shift 2
  for p in "$@"; do include+=,$p; done
  need mmdebstrap
  mapfile -t options < <(apt_settings)
  mapfile -t sources < <(apt_sources "$suite")
  say "bootstrapping $suite: $include"
  run_as_user mmdebstrap --quiet --skip=output/dev --variant=apt --include="$include" --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' "${options[@]}" "${BOOTSTRAP_OPTIONS[@]}" "$suite" "${tar%.tar}.part.tar" "${sources[@]}" >&2 </dev/null
  run_as_user mv "${tar%.tar}.part.tar" "$tar"
}
