# shellcheck shell=bash
# The machine's disk and kernel, made of Debian's packages; to be sourced after lib.sh.
#
# make_image sets IMAGE to a directory with disk.img (ext4, one file system), vmlinuz and key (logs in as VM_USER); all are kept
# for a month. The kernel is that of linux-image-cloud-amd64: NVMe and ext4 are built in, so that no initrd is needed.

VM_SUITE=bookworm
VM_USER=dev
VM_DISK=12G # sparse
VM_HOST_PACKAGES=(qemu-system-x86 mmdebstrap e2fsprogs openssh-client)
VM_PACKAGES=(systemd-sysv udev kmod dbus dbus-user-session libpam-systemd openssh-server sudo procps iproute2 e2fsprogs
  apparmor uidmap podman buildah skopeo umoci crun runc slirp4netns passt fuse-overlayfs libcap2-bin attr acl git gcc
  libc6-dev curl zstd xz-utils bzip2 docker-registry python3 busybox-static bash-static apache2-utils openssl openssh-client)

make_image() {
  need "${VM_HOST_PACKAGES[@]}"
  local dir recipe
  recipe=$(cat "$ROOT/hack/vm/image.sh" "$ROOT/hack/vm/customize.sh" | sha256sum | head -c 12)
  dir=$(state_dir)/vm
  run_as_user mkdir -p "$dir"
  exec 8>"$dir/lock"
  flock -n 8 || { say "waiting for another run to make the machine's disk" && flock 8; }
  run_as_user find "$dir" -mindepth 1 -maxdepth 1 -name 'disk-*' -mtime +30 -exec rm -rf {} +
  IMAGE=$dir/disk-$recipe
  [ -d "$IMAGE" ] || build_image "$IMAGE"
  exec 8>&-
}

# build_image DIR makes DIR whole or not at all.
build_image() {
  local part=$1.part
  run_as_user rm -rf "$part"
  run_as_user mkdir -p "$part"
  run_as_user ssh-keygen -q -t ed25519 -N '' -C "$VM_USER" -f "$part/key"
  # Uploaded, since the user that mmdebstrap's hooks run as may not be let into the tree.
  # shellcheck disable=SC2016 # $1, the root filesystem, is for the shell that mmdebstrap starts
  BOOTSTRAP_OPTIONS=(--customize-hook="upload $(printf %q "$ROOT/hack/vm/customize.sh") /root/customize.sh"
    --customize-hook="upload $(printf %q "$part/key.pub") /root/key.pub"
    --customize-hook='bash "$1/root/customize.sh" "$1" '"$VM_USER")
  bootstrap "$VM_SUITE" "$part/root.tar" "${VM_PACKAGES[@]}"
  # shellcheck disable=SC2034 # read by bootstrap
  BOOTSTRAP_OPTIONS=()
  say "making the machine's disk"
  # In a user namespace, where the files' owners are those that the machine sees.
  # shellcheck disable=SC2016 # for the inner shell
  run_as_user unshare --map-root-user --map-auto bash -eu -c '
    mkdir "$1/root"
    tar -x -C "$1/root" --xattrs --xattrs-include="*" --numeric-owner -f "$1/root.tar"
    mv "$1/root/boot/vmlinuz" "$1/vmlinuz"
    mke2fs -q -t ext4 -m 0 -E root_owner=0:0 -d "$1/root" "$1/disk.img" "$2"
    rm -rf "$1/root" "$1/root.tar"' - "$part" "$VM_DISK" >/dev/null
  run_as_user mv "$part" "$1"
}
