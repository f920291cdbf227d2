#!/usr/bin/env bash
# The main job, from nothing, on a fresh Debian machine: builds rbuild, gets a base image, builds examples/python and runs
# the result with podman. All that is installed: uidmap, podman with runc, Go if there is none new enough, and mmdebstrap
# if the base image's registry does not answer. Run as root, it makes an ordinary user and works as that one.
#
#   hack/quickstart.sh

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

BASE=docker.io/library/debian:bookworm
LOCAL_BASE=localhost/debian:bookworm
IMAGE=localhost/hello-python

rbuild() { run_as_user "$TREE/bin/rbuild" "$@"; }

# get_base sets BASE to an image that is in the store: from its registry if that answers soon, else made here.
get_base() {
  if rbuild inspect "$LOCAL_BASE" >/dev/null 2>&1; then BASE=$LOCAL_BASE; return; fi
  if registry_answers && rbuild pull "$BASE"; then return; fi
  say "no answer from the registry of $BASE: making $LOCAL_BASE from Debian's packages"
  BASE=$LOCAL_BASE
  import_base
}

registry_answers() {
  need curl ca-certificates
  run_as_user curl -s -o /dev/null --max-time 5 https://registry-1.docker.io/v2/
}

import_base() {
  local context
  context=$(state_dir)/quickstart
  run_as_user mkdir -p "$context"
  bootstrap bookworm "$context/rootfs.tar"
  printf 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n' | run_as_user tee "$context/Dockerfile" >/dev/null
  rbuild bud -q -t "$LOCAL_BASE" "$context"
  run_as_user rm -rf "$context"
}

# run_image runs IMAGE from rbuild's store. Podman 4.3 would choose the vfs driver for a new user, so it is told; without
# systemd it must make cgroups itself, and goes without where it may not.
run_image() {
  local options=(--storage-driver overlay --runtime runc)
  [ -d /run/systemd/system ] || options+=(--cgroup-manager cgroupfs --events-backend file)
  run_as_user env -C / podman "${options[@]}" run --network host "$IMAGE"
}

ensure_go
ensure_user
need podman runc
own_tree
build "$TREE"
get_base
say "building $IMAGE on $BASE as $RUN_USER"
rbuild bud -t "$IMAGE" --build-arg "BASE=$BASE" "$TREE/examples/python"
say "running it with podman"
run_image
say "done. The binary: $TREE/bin/rbuild. To build again: rbuild bud -t $IMAGE --build-arg BASE=$BASE examples/python"
