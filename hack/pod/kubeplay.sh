# shellcheck shell=bash
# The manifests of deploy/kubernetes as podman kube play reads them; to be sourced after pods.sh.

KUBE_PACKAGES=(podman catatonit runc)
# Manifests and what comes of a RUN. podman 4.3 knows no Job and takes no notice of hostUsers, seccompProfile, appArmorProfile
# and procMount: its own seccomp profile lets namespaces be made, so that the pod "default" is one where root maps ids.
KUBE_PODS=(
  'user          ok'
  'default       ok'
  'no-escalation refused'
  'restricted    refused'
)

# kube_play runs them with the network of the host. To be called by pods, which has made the image and the contexts.
kube_play() {
  local row dir=$PODS_DIR/kube
  need "${KUBE_PACKAGES[@]}"
  mkdir -p "$dir/auth"
  # Its default, a million, is more than root may set in some containers.
  printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=4096:4096"]\n' "$(ulimit -Hn)" "$(ulimit -Hn)" >"$dir/containers.conf"
  PODMAN=(env "CONTAINERS_CONF=$dir/containers.conf" podman --root "$dir/root" --runroot "$dir/run" --storage-driver overlay
    --runtime runc --cgroup-manager cgroupfs)
  auth_file "$TLSREGISTRY" >"$dir/auth/.dockerconfigjson"
  sed 's/10\.0\.2\.2/127.0.0.1/' "$PODS_DIR/files/registries.conf" >"$dir/auth/registries.conf"
  # By a relative path: podman takes it for the image's name, in which there are no capitals.
  IMAGE=$(cd "$WORK/pod" && "${PODMAN[@]}" pull -q oci:oci:rbuild)
  for row in "${KUBE_PODS[@]}"; do
    # shellcheck disable=SC2086 # words
    kube_pod $row
  done
  "${PODMAN[@]}" rmi --all --force >/dev/null
}

# kube_pod MANIFEST OUTCOME runs one, with the arguments of the manifest but for the names.
kube_pod() {
  local dir=$PODS_DIR/kube out=$PODS_DIR/kube/$1.out
  say "podman kube play: deploy/kubernetes/$1.yaml"
  "$ROOT/hack/pod/kube.py" "$ROOT/deploy/kubernetes/$1.yaml" --image "$IMAGE" --auth "$dir/auth" --contexts "$PODS_DIR/files/pod" -- \
    --registries-conf /run/auth/registries.conf bud -t "$TLSREGISTRY/kube" --push --tls-verify=false /pod/run >"$dir/pod.yaml"
  "${PODMAN[@]}" kube play --network host "$dir/pod.yaml" >"$dir/log" 2>&1 </dev/null || { cat "$dir/log" >&2 && die "podman kube play: $1"; }
  "${PODMAN[@]}" wait rbuild-rbuild >"$out.code"
  "${PODMAN[@]}" logs rbuild-rbuild >"$out" 2>&1
  "${PODMAN[@]}" pod rm --force rbuild >/dev/null
  "${PODMAN[@]}" volume rm --all --force >/dev/null
  printf 'podman kube play, %s: %s\n' "$1" "$(outcome "$out")" >>"$PODS_DIR/texts"
  check "podman kube play: $1" [ "$(outcome "$out")" = "$2" ]
}
