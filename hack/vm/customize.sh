#!/usr/bin/env bash
# What makes a bootable machine of a Debian root filesystem; run by mmdebstrap.
#
#   customize.sh ROOT USER       ROOT/root/key.pub is the key that logs in as USER
set -euo pipefail
root=$1 user=$2

# The kernel is unpacked, not installed (that would make an initrd), and its modules are moved: dpkg-deb -x would replace the link
# /lib of a merged-usr tree by a directory.
kernel() {
  local dir package version
  dir=$(mktemp -d)
  cd "$dir"
  package=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
  APT_CONFIG=${MMDEBSTRAP_APT_CONFIG:-} apt-get -o APT::Sandbox::User=root download -qq "$package"
  dpkg-deb -x ./linux-image-*.deb unpacked
  version=$(ls unpacked/lib/modules)
  mkdir -p "$root/usr/lib/modules" "$root/boot"
  cp -a "unpacked/lib/modules/$version" "$root/usr/lib/modules/"
  cp "unpacked/boot/vmlinuz-$version" "$root/boot/vmlinuz"
  chroot "$root" depmod "$version"
  cd /
  rm -rf "$dir"
  printf '%s\n' overlay fuse tun virtio_net >"$root/etc/modules-load.d/rbuild.conf"
}

# An ordinary user as Debian makes one: with subordinate ids, whose systemd runs from the start, and who may use sudo.
ordinary_user() {
  chroot "$root" useradd --create-home --shell /bin/bash "$user"
  grep -q "^$user:" "$root/etc/subuid"
  mkdir -p "$root/var/lib/systemd/linger"
  touch "$root/var/lib/systemd/linger/$user"
  printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"$root/etc/sudoers.d/$user"
  install -D -m 600 "$root/root/key.pub" "$root/home/$user/.ssh/authorized_keys"
  install -d -m 755 "$root/opt/rbuild"
  chroot "$root" chown -R "$user:$user" "/home/$user/.ssh" /opt/rbuild
  ln -s /opt/rbuild/bin/rbuild "$root/usr/local/bin/rbuild"
}

network() {
  cat >"$root/etc/systemd/network/eth0.network" <<'CONF'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
CONF
  printf 'nameserver 10.0.2.3\n' >"$root/etc/resolv.conf"
  printf 'rbuild-vm\n' >"$root/etc/hostname"
  printf '127.0.0.1 localhost rbuild-vm\n::1 localhost\n' >"$root/etc/hosts"
  printf 'UseDNS no\nGSSAPIAuthentication no\nPrintMotd no\nAcceptEnv *\n' >"$root/etc/ssh/sshd_config.d/rbuild.conf"
  chroot "$root" systemctl -q enable systemd-networkd ssh
}

# What only makes the emulated machine slower to start.
less() {
  chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    e2scrub_reap.service docker-registry.service podman.service podman.socket podman-auto-update.timer podman-auto-update.service \
    podman-restart.service systemd-networkd-wait-online.service systemd-hwdb-update.service systemd-journal-flush.service \
    systemd-timesyncd.service getty@tty1.service systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-boot-update.service
  chroot "$root" systemctl -q set-default multi-user.target
  printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n' >"$root/etc/systemd/journald.conf"
}

kernel
ordinary_user
network
less
rm "$root/root/customize.sh" "$root/root/key.pub"
