#!/usr/bin/env bash
# All tests, on a fresh Debian machine: installs the real components, starts registries on loopback, makes base images,
# runs unit tests (-race), integration scripts and the conformance set as an ordinary user, as root the image of rbuild in pods
# (hack/pod), boots a machine with systemd and cgroup v2 for the scripts that need one (hack/vm), and stops what it started.
# The last line is "N passed, M failed"; the exit status is 0 only if M is 0. Run as root, or as a user with sudo.
#
#   hack/test.sh [--unit] [--integration [REGEXP]] [--conformance [REGEXP]] [--pod [REGEXP]] [--vm [REGEXP]] [--all]
#
# What is kept for the next run: ~/.cache/rbuild-test of the ordinary user (base images, the machine's disk, a copy of the tree)
# and Go's caches.

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=hack/testenv.sh
. "$ROOT/hack/testenv.sh"
# shellcheck source=hack/cgroups.sh
. "$ROOT/hack/cgroups.sh"
# shellcheck source=hack/pod/pods.sh
. "$ROOT/hack/pod/pods.sh"
# shellcheck source=hack/pod/kubeplay.sh
. "$ROOT/hack/pod/kubeplay.sh"

PACKAGES=(podman buildah skopeo umoci runc uidmap mmdebstrap slirp4netns passt python3 openssl apache2-utils gcc libc6-dev
  git curl zstd xz-utils bzip2 attr acl libcap2-bin openssh-client procps util-linux)
PLAIN_TESTS='TestBounds|TestBombs|TestSize|TestMemory|TestSetuidProgram|TestCannotRewriteTheBuilder|TestCannotReachThroughProc'
PASSED=0 FAILED=0 SKIPPED=0

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit "$1"; }

parse_options() {
  UNIT='' INTEGRATION='' CONFORMANCE='' POD='' VM=''
  [ $# -gt 0 ] || set -- --all
  while [ $# -gt 0 ]; do
    case $1 in
    --all) UNIT=1 INTEGRATION='.*' CONFORMANCE='.*' POD='.*' VM='.*' ;;
    --unit) UNIT=1 ;;
    --integration | --conformance | --pod | --vm)
      local value='.*'
      if [ $# -gt 1 ] && [ "${2#--}" = "$2" ]; then value=$2; fi
      case $1 in
      --integration) INTEGRATION=$value ;;
      --conformance) CONFORMANCE=$value ;;
      --pod) POD=$value ;;
      --vm) VM=$value ;;
      esac
      [ "$value" != "${2:-}" ] || shift
      ;;
    -h | --help) usage 0 ;;
    *) usage 2 >&2 ;;
    esac
    shift
  done
}

# ------------------------------------------------------------------------------------------------------------ running
# go_test NAME COMMAND... runs Go tests that print as with -v, shows what matters, and counts.
go_test() {
  local name=$1 log=$WORK/$1.out status
  shift
  say "$name tests"
  set +e
  "$@" 2>&1 </dev/null | tee "$log" | grep -a --line-buffered -E '^(ok|FAIL|panic:)|^ *--- (FAIL|SKIP):'
  status=${PIPESTATUS[0]}
  set -e
  count "$name" "$log" "$status"
}

# count NAME LOG STATUS adds up a log of "go test -v"; what failed, and a skip that is not expected, is shown whole.
count() {
  local name=$1 log=$2 passed failed skipped odd
  passed=$(grep -acE '^ *--- PASS:' "$log" || true)
  failed=$(grep -acE '^ *--- FAIL:' "$log" || true)
  skipped=$(grep -acE '^ *--- SKIP:' "$log" || true)
  if [ "$3" != 0 ]; then
    show_failures "$log"
    [ "$failed" -gt 0 ] || failed=1
  fi
  if [ "$passed" = 0 ] && [ "$failed" = 0 ]; then echo "no $name test ran" && failed=1; fi
  odd=$(unexpected_skips "$log")
  if [ -n "$odd" ]; then
    printf 'skipped, but tests/expected-skips does not say why:\n%s\n' "$odd"
    failed=$((failed + $(wc -l <<<"$odd")))
  fi
  tally "$name" "$passed" "$failed" "$skipped"
}

tally() {
  say "$1: $2 passed, $3 failed, $4 skipped"
  PASSED=$((PASSED + $2)) FAILED=$((FAILED + $3)) SKIPPED=$((SKIPPED + $4))
}

# show_failures LOG prints the last lines before each failure.
show_failures() {
  echo "---- what failed"
  grep -a -B 25 -A 10 -E '^ *(--- )?FAIL: |^panic:|^# |: error:|^[^ ]+\.go:[0-9]+:' "$1" | grep -avE '^=== (RUN|PAUSE|CONT|NAME)' |
    cut -c 1-300 | tail -n 600
}

# unexpected_skips LOG prints the skipped tests that tests/expected-skips does not know, or not with the reason that the test
# gave, each with that reason.
unexpected_skips() {
  local name reason pattern wanted known
  while IFS=$'\t' read -r name reason; do
    known=''
    while IFS=$'\t' read -r pattern wanted; do
      if [[ $name =~ ^($pattern)$ && $reason =~ $wanted ]]; then known=1; fi
    done < <(sed -n 's/[[:space:]]*#.*//; /^$/d; s/ if /\t/; p' "$TREE/tests/expected-skips")
    [ -n "$known" ] || printf '%s: %s\n' "$name" "${reason:-no reason given}"
  done < <(skips "$1")
}

# skips LOG prints the skipped tests of a log of "go test -v", each with a tab and the last line that it logged.
skips() {
  awk '/^=== RUN / { said[$3] = "" }
    /^=== (RUN|NAME|CONT) / { name = $3; next }
    /^ *--- SKIP: / { printf "%s\t%s\n", $3, said[$3]; next }
    /^ +[^ ]/ && name != "" { sub(/^ +/, ""); gsub(/\t/, " "); said[name] = $0 }' "$1"
}

# ----------------------------------------------------------------------------------------------------- the tun device
# open_tun makes /dev/net/tun what it is on a usual Debian, where udev gives it mode 0666: helpers of a private network open it.
# close_tun undoes it. Where that cannot be done the tests that need the device are skipped, and say why.
open_tun() {
  TUN_MODE=''
  if [ ! -e /dev/net/tun ] && command -v modprobe >/dev/null; then try_as_root modprobe tun; fi
  if [ ! -c /dev/net/tun ] || run_as_user sh -c ': <>/dev/net/tun' 2>/dev/null; then return 0; fi
  TUN_MODE=$(stat -c %a /dev/net/tun)
  try_as_root chmod 666 /dev/net/tun
}

close_tun() { [ -z "${TUN_MODE:-}" ] || try_as_root chmod "$TUN_MODE" /dev/net/tun; }

# try_as_root COMMAND... runs it as root if that needs no password, and is silent.
try_as_root() {
  if is_root; then "$@"; else sudo -n -- "$@"; fi >/dev/null 2>&1 || true
}

# tree COMMAND... runs it as the ordinary user in the tree, in a scratch directory of this run.
tree() { run_as_user env -C "$TREE" "TMPDIR=$WORK/tmp" GOTOOLCHAIN=local "$@"; }

# unit runs the unit tests with the race detector, then without it those that are about size and speed or need a static
# test binary, then as root the one that needs root. The tests of the library are all of that kind: RUN executes their binary.
unit() {
  go_test unit tree CGO_ENABLED=1 "$GO" test -race -tags "$TAGS" -count=1 -timeout 40m -v ./cmd/... ./pkg/... ./internal/... ./tests/docs/...
  go_test size tree CGO_ENABLED=0 "$GO" test -tags "$TAGS" -count=1 -timeout 40m -v -run "^($PLAIN_TESTS)\$" ./pkg/... ./internal/...
  go_test library tree CGO_ENABLED=0 "$GO" test -tags "$TAGS" -count=1 -timeout 10m -v .
  is_root || return 0
  compile_tests "$TREE" ./pkg/userns "$WORK/userns.test"
  go_test root env -C "$TREE/pkg/userns" "$WORK/userns.test" -test.v -test.run '^TestEnterDirect$'
}

# integration REGEXP runs the scripts whose names match.
integration() {
  push_distribution_bases
  compile_tests "$TREE" ./tests/integration "$WORK/integration.test"
  go_test integration tree "${INTEGRATION_ENV[@]}" "TMPDIR=$WORK" env -C tests/integration "$WORK/integration.test" \
    -test.v -test.timeout 80m -test.run "^Test[^/]*\$/$1"
  [ "$1" != '.*' ] || without_subids
  [ "$1" != '.*' ] || root_scripts
}

# root_scripts runs the scripts for real root, as root.
root_scripts() {
  if ! is_root; then say 'skipped: the scripts of root/ need root' && return; fi
  go_test root-scripts env -C "$TREE/tests/integration" "${INTEGRATION_ENV[@]}" "TMPDIR=$WORK" \
    "$WORK/integration.test" -test.v -test.timeout 20m -test.run '^TestRoot$'
  compile_tests "$TREE" ./internal/kernel/cgroup "$WORK/cgroup.test"
  go_test root-cgroup env -C "$TREE/internal/kernel/cgroup" "$WORK/cgroup.test" -test.v -test.run '^TestHoldDevices$'
}

# without_subids runs the scripts for a user who has no subordinate ids, as such a user.
without_subids() {
  if ! is_root; then say "skipped: the scripts of nosub/ need root, to be run as $NOSUB_USER" && return; fi
  ensure_nosub_user
  prefix "$NOSUB_USER"
  go_test nosub "${PREFIX[@]}" env -C "$TREE/tests/integration" "${INTEGRATION_ENV[@]}" TMPDIR=/var/tmp NOSUB=1 \
    "$WORK/integration.test" -test.v -test.run '^TestWithoutSubordinateIDs$'
}

# conformance REGEXP [FLAG] runs the cases whose names match. tests/conformance/expected-failures lists those that cannot pass
# yet; one of them that passes counts as a failure, so that the list stays true.
conformance() {
  local log=$WORK/conformance.out name verdict reason passed=0 failed=0 expected=0
  say "conformance set${2:+, ${2#--}}"
  tree env -C tests/conformance python3 -B check.py --rbuild "$TREE/bin/rbuild" --registry "$REGISTRY" --filter "$1" ${2:+"$2"} \
    >"$log" 2>&1 </dev/null || true
  while read -r name verdict; do
    reason=$(awk -v n="$name" '$1 == n { $1 = ""; print substr($0, 2) }' "$TREE/tests/conformance/expected-failures")
    case ${verdict%%:*}/${reason:+listed} in
    ok/) passed=$((passed + 1)) ;;
    ok/listed) echo "$name passes: take it out of tests/conformance/expected-failures" && failed=$((failed + 1)) ;;
    */listed) echo "$name fails as expected: $reason" && expected=$((expected + 1)) ;;
    *) grep -a -A 7 "^$name " "$log" | awk 'NR == 1 || /^ / { print; next } { exit }' && failed=$((failed + 1)) ;;
    esac
  done < <(grep -aE '^[a-z0-9-]+ +(ok|differs|failed)' "$log")
  if [ $((passed + failed + expected)) = 0 ]; then tail -n 5 "$log" && failed=1; fi
  tally conformance "$passed" "$failed" "$expected"
}

# pod REGEXP runs the pods whose profiles match.
pod() {
  if ! is_root; then say 'skipped: the pods of hack/pod, which runc makes as root' && return; fi
  push_distribution_bases
  pods "$1"
  if [ $((PODS_PASSED + PODS_FAILED)) = 0 ]; then echo 'no pod ran' && PODS_FAILED=1; fi
  tally pod "$PODS_PASSED" "$PODS_FAILED" 0
}

# vm REGEXP runs the scripts of tests/integration/vm whose names match in a machine of their own.
vm() {
  [ "$(dpkg --print-architecture)" = amd64 ] || { say 'skipped: the scripts of hack/vm, whose machine is an amd64 one' && return; }
  go_test vm env "TREE=$TREE" "TEST_USER=$RUN_USER" "RBUILD_BIN=$TREE/bin/rbuild" "$ROOT/hack/vm/run.sh" --tests "$1"
}

main() {
  parse_options "$@"
  need "${PACKAGES[@]}" "${TESTENV_PACKAGES[@]}"
  ensure_go
  ensure_user
  [ -n "${TREE:-}" ] || own_tree # else .ci/run has made it
  build "$TREE"
  trap 'close_tun; stop_pods; stop_testenv; give_back_cgroups' EXIT
  open_tun
  delegate_cgroups
  start_testenv
  run_as_user mkdir -p "$WORK/tmp"
  INTEGRATION_ENV=("RBUILD_BIN=$TREE/bin/rbuild" "REGISTRY=$REGISTRY" "TLSREGISTRY=$TLSREGISTRY" "CERTS=$CERTS"
    "REGISTRY_USER=$REGISTRY_USER" "REGISTRY_PASSWORD=$REGISTRY_PASSWORD" "REGISTRIES_CONF=$REGISTRIES_CONF"
    "CGROUP_PARENT=${CGROUP_PARENT:-}" CGROUP_TREE=/sys/fs/cgroup)
  [ -z "$UNIT" ] || unit
  [ -z "$INTEGRATION" ] || integration "$INTEGRATION"
  if [ -n "$CONFORMANCE" ]; then
    conformance "$CONFORMANCE"
    conformance "$CONFORMANCE" --restricted
  fi
  [ -z "$POD" ] || pod "$POD"
  [ -z "$VM" ] || vm "$VM"
  echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
  [ "$FAILED" = 0 ]
}

main "$@"
