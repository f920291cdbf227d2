#!/usr/bin/env bash
# Kills COUNT builds with SIGKILL at random moments of their pull, COPY, RUN, commit and push, and checks after each: when the
# next command has run, no process, mount, staging directory, incomplete layer or half-written file is left, the next build
# makes the same image as an undisturbed one, and podman reads the store. Run as root, or as a user with sudo.
#
#   hack/chaos/kill.sh [COUNT]        (default 30)

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=hack/testenv.sh
. "$ROOT/hack/testenv.sh"

main() {
  need podman skopeo "${TESTENV_PACKAGES[@]}"
  ensure_go
  ensure_user
  own_tree
  build "$TREE"
  trap stop_testenv EXIT
  start_testenv
  compile
  run_as_user env -C "$TREE/tests/integration" "RBUILD_BIN=$TREE/bin/rbuild" "REGISTRY=$REGISTRY" \
    "REGISTRIES_CONF=$REGISTRIES_CONF" "TMPDIR=$WORK" "KILLS=${1:-30}" \
    "$WORK/integration.test" -test.v -test.run '^TestKill$/^kill$' -test.timeout 3h </dev/null
}

compile() {
  run_as_user env -C "$TREE" CGO_ENABLED=0 GOTOOLCHAIN=local "$GO" test -c -tags "$TAGS" -o "$WORK/integration.test" ./tests/integration
}

main "$@"
