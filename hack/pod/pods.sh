# shellcheck shell=bash
# Pods by runc, as kubelet and containerd make them from the manifests of deploy/kubernetes; to be sourced after testenv.sh.
# Nothing of a cluster is needed but root. What differs from a cluster: the network is slirp4netns's, and instead of idmapped
# mounts, which Debian 12's runc lacks, pods with hostUsers: false get copies of the image and volume with shifted owners.

POD_PACKAGES=(runc umoci slirp4netns python3-yaml)
# Profile of docs/pods.md, manifest, then what is expected: ids mapped, RUN in busybox, RUN in debian, apt-get install, Dockerfile
# without RUN, warning.
PODS=(
  'P1   default                refused refused refused refused ok'
  'P2   user                   65537   ok      ok      ok      ok   proc'
  'P4   no-escalation          1       ok      refused refused ok'
  'P5b  user-namespace-masked  65536   ok      ok      ok      ok   proc'
  'P5c  user-namespace-seccomp 65536   ok      ok      ok      ok   chroot'
  'P5d  user-namespace         65536   ok      ok      ok      ok'
  'P5u  user-namespace-user    65535   ok      ok      ok      ok'
  'P6   restricted             refused refused refused refused ok'
)
FIRST_POD_ID=655360 # of the user namespaces, as in config.py

# pods [REGEXP] runs the pods whose profiles match ("kube": those by podman kube play), prints the table, and counts in
# PODS_PASSED and PODS_FAILED. Call stop_pods at the end, whatever happens.
pods() {
  local row filter=${1:-.*}
  PODS_PASSED=0 PODS_FAILED=0
  need "${POD_PACKAGES[@]}"
  PODS_DIR=$(mktemp -d /var/tmp/rbpod.XXXXXX)
  chmod 755 "$PODS_DIR"
  pod_image
  table_row pod manifest ids 'RUN in busybox' 'RUN in debian' 'apt-get openssh-client' 'without RUN'
  echo '|---|---|---|---|---|---|---|' >>"$PODS_DIR/table"
  : >"$PODS_DIR/texts"
  for row in "${PODS[@]}"; do
    # shellcheck disable=SC2086 # words
    set -- $row
    [[ $1 =~ ^($filter)$ ]] || continue
    run_pod "$1" "$2"
    judge_pod "$@"
  done
  [[ ! kube =~ ^($filter)$ ]] || kube_play
  cat "$PODS_DIR/table" "$PODS_DIR/texts"
}

# stop_pods ends what is left of the pods.
stop_pods() {
  local dir
  [ -n "${PODS_DIR:-}" ] || return 0
  for dir in "$PODS_DIR"/*/rootfs; do
    runc delete --force "rbuild-pod-$(basename "$(dirname "$dir")")" >/dev/null 2>&1 || true
    ! mountpoint -q "$dir" || umount "$dir"
  done
  if [ -d "$PODS_DIR/kube/root" ]; then
    "${PODMAN[@]}" pod rm --all --force >/dev/null 2>&1 || true
    umount "$PODS_DIR/kube/root/overlay" 2>/dev/null || true
  fi
  rm -rf --one-file-system "$PODS_DIR"
  PODS_DIR=
}

# pod_image builds the image of deploy/Containerfile with rbuild, and unpacks it twice: as it is, and for a user namespace.
pod_image() {
  local st=("$TREE/bin/rbuild" --root "$WORK/pod/root" --runroot "$WORK/pod/run" --registries-conf "$REGISTRIES_CONF") map
  say 'building the image of rbuild with rbuild'
  run_as_user mkdir -p "$WORK/pod"
  run_as_user "${st[@]}" bud --quiet -f "$TREE/deploy/Containerfile" -t "oci:$WORK/pod/oci:rbuild" "$TREE" >/dev/null
  umoci unpack --image "$WORK/pod/oci:rbuild" "$PODS_DIR/plain" >/dev/null
  map=0:$FIRST_POD_ID:65536
  umoci unpack --image "$WORK/pod/oci:rbuild" --uid-map "$map" --gid-map "$map" "$PODS_DIR/shifted" >/dev/null
  run_as_user skopeo inspect --config "oci:$WORK/pod/oci:rbuild" >"$PODS_DIR/image.json"
  SECCOMP=$(run_as_user env -C "$TREE" GOTOOLCHAIN=local "$GO" list -m -f '{{.Dir}}' github.com/moby/profiles/seccomp)/default.json
  pod_files
}

# pod_files makes what kubelet mounts: a ConfigMap, a secret, /etc/hosts, /etc/resolv.conf.
pod_files() {
  local files=$PODS_DIR/files port=${REGISTRY##*:}
  mkdir -p "$files/auth"
  cp -r "$ROOT/hack/pod/context" "$files/pod"
  install -m 755 "$ROOT/hack/pod/inside.sh" "$files/pod/"
  auth_file "10.0.2.2:${TLSREGISTRY##*:}" >"$files/auth/.dockerconfigjson"
  echo 'nameserver 10.0.2.3' >"$files/resolv.conf"
  printf '127.0.0.1 localhost\n' >"$files/hosts"
  cat >"$files/registries.conf" <<TOML
[[registry]]
prefix = "docker.io"
location = "10.0.2.2:$port"
insecure = true
TOML
  chmod -R a+rX "$files"
}

auth_file() { printf '{"auths":{"%s":{"auth":"%s"}}}\n' "$1" "$(printf '%s:%s' "$REGISTRY_USER" "$REGISTRY_PASSWORD" | base64)"; }

# run_pod PROFILE MANIFEST runs a pod to its end. Its volume stays for judge_pod.
run_pod() {
  local dir=$PODS_DIR/$1 base=$PODS_DIR/plain/rootfs owner=0 files=$PODS_DIR/files pid slirp status=0
  say "pod $1: deploy/kubernetes/$2.yaml"
  mkdir -p "$dir"/{upper,work,rootfs,store}
  if grep -q '^ *hostUsers: false' "$ROOT/deploy/kubernetes/$2.yaml"; then base=$PODS_DIR/shifted/rootfs owner=$FIRST_POD_ID; fi
  chmod 777 "$dir/store" # as an emptyDir
  chown "$owner:$owner" "$dir"/{upper,store}
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/rootfs"
  "$ROOT/hack/pod/config.py" --manifest "$ROOT/deploy/kubernetes/$2.yaml" --image "$PODS_DIR/image.json" --seccomp "$SECCOMP" \
    --rootfs "$dir/rootfs" --volume "store=$dir/store" --volume "auth=$files/auth" --file "/pod=$files/pod" \
    --file "/etc/resolv.conf=$files/resolv.conf" --file "/etc/hosts=$files/hosts" \
    --file "/etc/containers/registries.conf=$files/registries.conf" --env CANARY=in-the-environment \
    --env "PUSH_TO=10.0.2.2:${TLSREGISTRY##*:}" \
    /pod/inside.sh >"$dir/config.json"
  runc create --bundle "$dir" --pid-file "$dir/pid" "rbuild-pod-$1" >"$dir/log" 2>&1 </dev/null || status=$?
  if [ "$status" = 0 ]; then
    pid=$(cat "$dir/pid")
    slirp4netns --configure --mtu=65520 "$pid" tap0 >"$dir/network" 2>&1 </dev/null &
    slirp=$!
    runc start "rbuild-pod-$1"
    tail --pid="$pid" -f /dev/null
    end_process "$slirp"
  fi
  runc delete --force "rbuild-pod-$1" >/dev/null 2>&1 || true
  umount "$dir/rootfs"
  [ "$status" = 0 ] || { cat "$dir/log" >&2 && die "runc could not make pod $1"; }
}

# judge_pod PROFILE MANIFEST MAP SMALL RUN APT NORUN NOTE adds a line to the table, and compares with what is expected.
judge_pod() {
  local out=$PODS_DIR/$1/store/out map verdict=refused file
  [ -e "$out/end" ] || { tail -n 3 "$out"/* "$PODS_DIR/$1/network" >&2 && die "pod $1 ended early"; }
  map=$(awk '$1 ~ /^[0-9]+$/ { n += $3 } END { print n }' "$out/map")
  [ "$(cat "$out/map.code")" = 0 ] || map=refused
  table_row "$1" "$2" "$map" "$(outcome "$out/small")" "$(outcome "$out/run")" "$(outcome "$out/apt")" "$(outcome "$out/norun")"
  check "$1: the ids" [ "$map" = "$3" ]
  check "$1: RUN in busybox" [ "$(outcome "$out/small")" = "$4" ]
  check "$1: RUN in debian" [ "$(outcome "$out/run")" = "$5" ]
  check "$1: apt-get" [ "$(outcome "$out/apt")" = "$6" ]
  check "$1: without RUN" [ "$(outcome "$out/norun")" = "$7" ]
  [ "$(cat "$out/doctor.code")" != 0 ] || verdict=ok
  check "$1: what the doctor says of RUN" [ "$verdict" = "$4" ]
  check "$1: the owner of a file that RUN has made" agrees "$5" grep -q ' 33/33 .* x$' "$out/owners"
  check "$1: the owner of a file that COPY has made" agrees "$7" grep -q ' 33/33 .* srv/file$' "$out/norun"
  check "$1: a push with the secret" agrees "$7" [ "$(outcome "$out/push")" = ok ]
  check "$1: what RUN is told to lack" [ "$(notes "$out/run")" = "${8:-}" ]
  check "$1: a store on the root of the container" grep -q "$OVERLAY_REFUSAL" "$out/overlay"
  check "$1: the same, before a pull" not grep -q "$PULLED" "$out/overlay"
  check "$1: a limit that nobody can enforce, before a pull" not grep -q "$PULLED" "$out/limits"
  [ "$3" != refused ] || check "$1: refused before a pull" not grep -q "$PULLED" "$out/unpulled"
  for file in small run apt norun; do
    [ "$(outcome "$out/$file")" = refused ] || continue
    printf '%s, %s: %s\n' "$1" "$file" "$(tail -n 1 "$out/$file")" >>"$PODS_DIR/texts"
    check "$1: $file is refused on a line that names fields of the pod" refusal "$out/$file"
  done
}

PULLED='Trying to pull'
OVERLAY_REFUSAL='RUN needs a user namespace\|which cannot hold the upper directory of another overlay.*emptyDir'

table_row() { printf '| %-3s | %-22s | %-7s | %-14s | %-13s | %-22s | %-11s |\n' "$@" >>"$PODS_DIR/table"; }

outcome() {
  case $(cat "$1.code") in
  0) echo ok ;;
  125) echo refused ;;
  *) echo failed ;;
  esac
}

# notes FILE prints what a build has warned of: proc, chroot.
notes() {
  [ "$(grep -c 'Warning: a /proc of its own is refused here' "$1")" = 0 ] || echo proc
  [ "$(grep -c 'Warning: pivot_root is refused here' "$1")" = 0 ] || echo chroot
}

# agrees ok|refused COMMAND... runs COMMAND if it is ok.
agrees() { [ "$1" != ok ] || "${@:2}"; }
not() { ! "$@"; }
refusal() { tail -n 1 "$1" | grep -qE '^rbuild: .*in a pod set [a-zA-Z]+: '; }

# check WHAT COMMAND... counts a check.
check() {
  if "${@:2}"; then PODS_PASSED=$((PODS_PASSED + 1)) && return; fi
  PODS_FAILED=$((PODS_FAILED + 1))
  echo "pod $1: not as expected" >&2
}
