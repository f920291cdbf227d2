# shellcheck shell=bash
# A running machine; to be sourced after lib.sh and vm/image.sh. QEMU emulates it in software and runs as RUN_USER; its disk is
# IMAGE's, and what the machine writes goes to a file that ends with it.
#
# start_machine DIR boots one, whose state is DIR; machine_ssh DIR COMMAND and push_file talk to it; stop_machine DIR ends it.

VM_CPUS=${VM_CPUS:-2}
VM_MEMORY=${VM_MEMORY:-2G}
VM_BOOT_SECONDS=900

# start_machine DIR boots the machine and waits until its user can log in.
start_machine() {
  local dir=$1
  run_as_user mkdir -p "$dir"
  run_as_user cp "$IMAGE/key" "$dir/key"
  say "booting (half a minute)"
  for _ in 1 2 3 4 5; do
    shuf -i 20000-32000 -n 1 | run_as_user tee "$dir/port" >/dev/null
    start_qemu "$dir"
    if wait_for_login "$dir"; then return; fi
    grep -q 'Could not set up host forwarding' "$dir/qemu.log" || break
  done
  tail -n 20 "$dir/qemu.log" "$dir/console" >&2
  stop_machine "$dir"
  die "the machine did not start"
}

start_qemu() {
  local dir=$1
  "${USER_PREFIX[@]}" "TMPDIR=$dir" nice setsid qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
    -accel tcg,thread=multi -cpu max -smp "$VM_CPUS" -m "$VM_MEMORY" \
    -kernel "$IMAGE/vmlinuz" \
    -append 'root=/dev/nvme0n1 rw console=ttyS0 quiet net.ifnames=0 mitigations=off random.trust_cpu=on' \
    -drive "file=$IMAGE/disk.img,format=raw,if=none,id=disk,snapshot=on,discard=unmap" -device nvme,drive=disk,serial=disk \
    -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$(cat "$dir/port")-:22" \
    -device virtio-net-pci,netdev=net,romfile= -serial "file:$dir/console" -pidfile "$dir/pid" \
    >"$dir/qemu.log" 2>&1 </dev/null 8>&- 9>&- &
}

# wait_for_login DIR fails if QEMU ended or the time is over.
wait_for_login() {
  local end=$((SECONDS + VM_BOOT_SECONDS))
  sleep 1
  while [ "$SECONDS" -lt "$end" ]; do
    machine_alive "$1" || return 1
    ! machine_ssh "$1" -o ConnectTimeout=30 true 2>/dev/null </dev/null || return 0
    sleep 2
  done
  return 1
}

# machine_alive DIR: the process of that number may be another's by now, so its command line is looked at.
machine_alive() { [ -s "$1/pid" ] && tr '\0' '\n' <"/proc/$(cat "$1/pid")/cmdline" 2>/dev/null | grep -qxF "$1/pid"; }

# machine_ssh DIR [OPTION...] COMMAND... runs a shell command as the machine's user, in a session of its own. A machine that does
# not answer for 5 minutes is given up.
machine_ssh() {
  local dir=$1
  shift
  run_as_user ssh -q -F none -i "$dir/key" -p "$(cat "$dir/port")" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -o IdentitiesOnly=yes -o BatchMode=yes -o ServerAliveInterval=30 -o ServerAliveCountMax=10 "$VM_USER@127.0.0.1" "$@"
}

# push_file DIR FILE PATH copies FILE to PATH below /opt/rbuild unless the same is there already.
push_file() {
  local sum stamp part=/opt/rbuild/$3.$$
  sum=$(sha256sum <"$2")
  stamp=$1/pushed/$3
  [ "$(cat "$stamp" 2>/dev/null || true)" != "$sum" ] || return 0
  machine_ssh "$1" "mkdir -p $(dirname "$part") && cat >$part && chmod 755 $part && mv $part /opt/rbuild/$3" <"$2"
  run_as_user mkdir -p "$(dirname "$stamp")"
  run_as_user tee "$stamp" <<<"$sum" >/dev/null
}

# push_tests DIR TREE replaces /opt/rbuild/src by the parts of the tree that the tests read.
push_tests() {
  tar -c -C "$2" hack tests | machine_ssh "$1" 'rm -rf /opt/rbuild/src && mkdir /opt/rbuild/src && tar -x -C /opt/rbuild/src'
}

# stop_machine DIR switches the machine off, as a power cut does (its disk is thrown away), and removes DIR.
stop_machine() {
  if machine_alive "$1"; then
    kill "$(cat "$1/pid")" 2>/dev/null || true
    for _ in $(seq 100); do machine_alive "$1" || break; sleep 0.1; done
    ! machine_alive "$1" || kill -KILL "$(cat "$1/pid")" 2>/dev/null || true
  fi
  run_as_user rm -rf "$1"
}
