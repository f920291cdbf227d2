#!/usr/bin/env bash
# Measures rbuild beside Debian's buildah and podman, and the floor that the kernel sets, in one run, as an ordinary user.
# Prints a table of medians and ratios. Run as root, or as a user with sudo, on a quiet machine.
#
#   hack/bench/run.sh [--quick] [--only REGEXP]

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=hack/testenv.sh
. "$ROOT/hack/testenv.sh"

main() {
  need gcc libc6-dev buildah podman runc "${TESTENV_PACKAGES[@]}"
  ensure_go
  ensure_user
  own_tree
  build "$TREE"
  trap stop_testenv EXIT
  start_testenv
  run_as_user gcc -O2 -Wall -o "$WORK/floor" "$TREE/hack/bench/floor.c"
  run_as_user env -C "$WORK" "CONTAINERS_REGISTRIES_CONF=$REGISTRIES_CONF" python3 -B "$TREE/hack/bench/measure.py" \
    --rbuild "$TREE/bin/rbuild" --floor "$WORK/floor" --work "$WORK/bench" "$@" </dev/null
}

main "$@"
