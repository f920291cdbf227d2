# shellcheck shell=bash
# Cgroups for the tests, to be sourced after lib.sh. Where the user has a systemd of his own the tests need none of this.

# delegate_cgroups gives RUN_USER cgroups, as far as root can: on version 1 CGROUP_PARENT in each hierarchy, and on version 2, beside
# it or without systemd, one that holds this process. give_back_cgroups undoes it.
delegate_cgroups() {
  local dir name=/rbuild-test-$$
  is_root || return 0
  for dir in /sys/fs/cgroup/{memory,pids,cpu,cpuacct,cpuset}; do
    if [ ! -e "$dir/cgroup.procs" ] || ! mkdir "$dir$name" 2>/dev/null; then continue; fi
    chown -R "$RUN_USER" "$dir$name"
    # shellcheck disable=SC2034 # read by who sources this
    CGROUP_PARENT=$name
  done
  for dir in /sys/fs/cgroup/unified /sys/fs/cgroup; do
    if [ ! -e "$dir/cgroup.controllers" ] || [ -d /run/systemd/system ] || ! mkdir "$dir$name" 2>/dev/null; then continue; fi
    chown -R "$RUN_USER" "$dir$name"
    CGROUP_BEFORE=$dir$(sed -n 's/^0:://p' /proc/self/cgroup)
    echo $$ >"$dir$name/cgroup.procs" || true
    return
  done
}

give_back_cgroups() {
  is_root || return 0
  [ -z "${CGROUP_BEFORE:-}" ] || echo $$ >"$CGROUP_BEFORE/cgroup.procs" || true
  rmdir /sys/fs/cgroup/{*/,}"rbuild-test-$$" 2>/dev/null || true
}
