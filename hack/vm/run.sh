#!/usr/bin/env bash
# Runs a script or a command in a Debian machine with systemd, cgroup v2 and an ordinary user who lingers, emulated by QEMU, with this
# tree's rbuild in PATH. It runs as that user, in a login session of its own; its output and its exit status are this one's.
#
#   hack/vm/run.sh [--keep] SCRIPT [ARGUMENT...]
#   hack/vm/run.sh [--keep] -- COMMAND [ARGUMENT...]
#   hack/vm/run.sh [--keep] --tests [REGEXP]      the scripts of tests/integration/vm whose names match
#   hack/vm/run.sh [--keep] --scripts REGEXP      those of tests/integration/testdata
#   hack/vm/run.sh --stop
#
# The first run makes the machine's disk (kept for a month). A boot takes half a minute; with --keep the machine goes on running, with
# what was written in it, and takes the next scripts of this tree at once, until --stop. sudo inside needs no password.
# RBUILD_BIN=FILE: that binary instead of this tree's. VM_PUSH='FILE...': files that are to be in /opt/rbuild.
# VM_NAME: another kept machine than this tree's. VM_CPUS and VM_MEMORY: 2 and 2G unless set. As root it all runs as TEST_USER.

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=hack/vm/image.sh
. "$ROOT/hack/vm/image.sh"
# shellcheck source=hack/vm/machine.sh
. "$ROOT/hack/vm/machine.sh"

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit "$1"; }

parse_options() {
  KEEP='' STOP='' SCRIPT='' TESTS=''
  while [ $# -gt 0 ]; do
    case $1 in
    --keep) KEEP=1 ;;
    --stop) STOP=1 ;;
    --tests) TESTS=TestMachine/${2:-.} && shift $# && break ;;
    --scripts) TESTS=TestScripts/${2:?} && shift $# && break ;;
    --) shift && break ;;
    -h | --help) usage 0 ;;
    -*) usage 2 >&2 ;;
    *) SCRIPT=$1 && shift && break ;;
    esac
    shift
  done
  ARGUMENTS=("$@")
  [ -n "$STOP$SCRIPT$TESTS" ] || [ $# -gt 0 ] || usage 2 >&2
  [ -z "$SCRIPT" ] || [ -r "$SCRIPT" ] || die "cannot read $SCRIPT"
}

# boot sets MACHINE to a running machine: the kept one of this tree, or a new one.
boot() {
  MACHINE=$KEPT
  ! machine_alive "$KEPT" || { KEEP=1 && return; }
  run_as_user rm -rf "$KEPT"
  [ -n "$KEEP" ] || MACHINE=$(run_as_user mktemp -d /var/tmp/rbvm.XXXXXX)
  make_image
  [ -n "$KEEP" ] || trap 'stop_machine "$MACHINE"' EXIT
  start_machine "$MACHINE"
}

# push puts into the machine what the script needs. hack/test.sh has made TREE.
push() {
  local file
  if [ -z "${TREE:-}" ] && { [ -z "${RBUILD_BIN:-}" ] || [ -n "$TESTS" ]; }; then own_tree; fi
  if [ -z "${RBUILD_BIN:-}" ]; then
    build "$TREE"
    RBUILD_BIN=$TREE/bin/rbuild
  fi
  push_file "$MACHINE" "$RBUILD_BIN" bin/rbuild
  if [ -n "$TESTS" ]; then
    compile_tests "$TREE" ./tests/integration "$MACHINE/integration.test"
    push_file "$MACHINE" "$MACHINE/integration.test" integration.test
    push_tests "$MACHINE" "$TREE"
  fi
  for file in ${VM_PUSH:-}; do push_file "$MACHINE" "$file" "$(basename "$file")"; done
}

# quoted WORD... prints the words quoted for a shell.
quoted() { printf '%q ' "$@"; }

execute() {
  if [ -n "$TESTS" ]; then
    machine_ssh "$MACHINE" "/opt/rbuild/src/hack/vm/inside.sh $(quoted "$TESTS")" </dev/null
  elif [ -z "$SCRIPT" ]; then
    machine_ssh "$MACHINE" "$(quoted "${ARGUMENTS[@]}")" </dev/null
  else
    machine_ssh "$MACHINE" "f=\$(mktemp) && cat >\$f && chmod 755 \$f && \$f $(quoted "${ARGUMENTS[@]}"); s=\$?; rm -f \$f; exit \$s" \
      <"$SCRIPT"
  fi
}

main() {
  local status=0
  parse_options "$@"
  ensure_go
  ensure_user
  KEPT=$(state_dir)/vm/kept-${VM_NAME:-$(printf %s "$ROOT" | sha256sum | head -c 12)}
  if [ -n "$STOP" ]; then stop_machine "$KEPT" && return; fi
  boot
  push
  execute || status=$?
  exit "$status"
}

main "$@"
