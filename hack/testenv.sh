# shellcheck shell=bash
# What the tests and the benchmarks run against: registries on loopback and base images; to be sourced after lib.sh.
#
# start_testenv sets REGISTRY (plain HTTP), TLSREGISTRY (TLS, with REGISTRY_USER and REGISTRY_PASSWORD), CERTS (for --cert-dir),
# REGISTRIES_CONF (sends docker.io to REGISTRY) and WORK (scratch of RUN_USER). stop_testenv ends it all.

export REGISTRY_USER=rbuild REGISTRY_PASSWORD=s3cret-word
TESTENV_PACKAGES=(docker-registry python3 busybox-static bash-static apache2-utils openssl ca-certificates)
PIDS=()

start_testenv() {
  need "${TESTENV_PACKAGES[@]}"
  CACHE=$(state_dir)/bases
  run_as_user mkdir -p "$CACHE"
  # A short path: podman 4.3 waits 20 s for each container where the names of its sockets grow too long.
  WORK=$(run_as_user mktemp -d /var/tmp/rbt.XXXXXX)
  run_as_user chmod 755 "$WORK"
  start_registry plain
  REGISTRY=$ADDRESS
  make_certificate
  start_registry tls
  TLSREGISTRY=$ADDRESS
  REGISTRIES_CONF=$WORK/registries.conf
  export REGISTRY TLSREGISTRY CERTS REGISTRIES_CONF
  push_small_bases
}

stop_testenv() {
  local p
  for p in "${PIDS[@]}"; do end_process "$p"; done
  PIDS=()
  [ -z "${WORK:-}" ] || remove_tree "$WORK"
}

# remove_tree DIR removes a directory that may hold files of subordinate ids.
remove_tree() {
  if is_root; then rm -rf "$1"; return; fi
  unshare --map-root-user --map-auto rm -rf "$1"
}

# start_registry plain|tls starts a registry on a free port and sets ADDRESS.
start_registry() {
  local conf=$WORK/$1.yml log=$WORK/$1.log
  registry_conf "$1" | run_as_user tee "$conf" >/dev/null
  run_as_user mkdir -p "$WORK/$1"
  "${USER_PREFIX[@]}" docker-registry serve "$conf" >"$log" 2>&1 </dev/null 9>&- &
  PIDS+=($!)
  for _ in $(seq 100); do
    ADDRESS=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' "$log" | head -n 1)
    [ -z "$ADDRESS" ] || return 0
    sleep 0.1
  done
  cat "$log" >&2
  die "the registry did not start"
}

registry_conf() {
  cat <<YAML
version: 0.1
storage: {filesystem: {rootdirectory: $WORK/$1}, delete: {enabled: true}}
YAML
  case $1 in
  plain) echo 'http: {addr: "127.0.0.1:0"}' ;;
  tls) cat <<YAML ;;
http: {addr: "127.0.0.1:0", tls: {certificate: $WORK/certs/ca.crt, key: $WORK/tls.key}}
auth: {htpasswd: {realm: test, path: $WORK/htpasswd}}
YAML
  esac
  echo 'log: {level: info, accesslog: {disabled: true}}'
}

make_certificate() {
  CERTS=$WORK/certs
  run_as_user mkdir -p "$CERTS"
  run_as_user openssl req -x509 -newkey rsa:2048 -nodes -days 7 -subj /CN=localhost \
    -addext 'subjectAltName=IP:127.0.0.1,DNS:localhost' -keyout "$WORK/tls.key" -out "$CERTS/ca.crt" 2>/dev/null
  run_as_user htpasswd -Bbc "$WORK/htpasswd" "$REGISTRY_USER" "$REGISTRY_PASSWORD" 2>/dev/null
}

push_small_bases() {
  run_as_user python3 -B "$TREE/tests/conformance/mkbases.py" --registry "$REGISTRY" --conf "$REGISTRIES_CONF" >/dev/null
}

# push_distribution_bases pushes debian:bookworm, node:18 and golang:1, made of Debian's packages and the Go at hand, and
# kept for a month for the next run.
push_distribution_bases() {
  [ -z "${BASES_PUSHED:-}" ] || return 0
  BASES_PUSHED=1
  local debian=$CACHE/debian.tar.gz node=$CACHE/node.tar.gz go env=()
  go=$CACHE/$("$GO" env GOVERSION).tar.gz
  run_as_user find "$CACHE" -name '*.tar*' -mtime +30 -delete
  [ -f "$debian" ] || { bootstrap bookworm "$CACHE/debian.tar" && run_as_user gzip -n1 "$CACHE/debian.tar"; }
  [ -f "$node" ] || { bootstrap bookworm "$CACHE/node.tar" nodejs npm && run_as_user gzip -n1 "$CACHE/node.tar"; }
  [ -f "$go" ] || go_layer "$go"
  push_image library/debian:bookworm --cmd bash "$debian"
  [ ! -s /etc/ssl/certs/ca-certificates.crt ] || env=(--env NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt)
  push_image library/node:18 --cmd node "${env[@]}" "$node"
  push_image library/golang:1 --cmd bash --env PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin --env GOTOOLCHAIN=local \
    "$debian" "$go"
}

push_image() {
  run_as_user python3 -B "$TREE/hack/pushimage.py" --registry "$REGISTRY" \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" >/dev/null
}

# go_layer FILE packs the Go tree at hand as a layer below /usr/local/go.
go_layer() {
  run_as_user tar -cf - --owner=0 --group=0 --exclude='*_test.go' --exclude=testdata --transform 's,^,usr/local/go/,S' \
    -C "$("$GO" env GOROOT)" bin pkg src VERSION go.env | gzip -n1 | run_as_user tee "$1.part" >/dev/null
  run_as_user mv "$1.part" "$1"
}
