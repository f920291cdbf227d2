#!/usr/bin/env bash
# Kills COUNT builds with SIGKILL at random moments, and then checks: no process, no mount, no staging directory and no
# incomplete layer is left after the next build, and that build is right. Run as root, or as a user with sudo.
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
    "$WORK/integration.test" -test.v -test.run '^TestKill$' -test.timeout 30m </dev/null
}

compile() {
  run_as_user env -C "$TREE" CGO_ENABLED=0 GOTOOLCHAIN=local "$GO" test -c -tags "$TAGS" -o "$WORK/integration.test" ./tests/integration
}

main "$@"
