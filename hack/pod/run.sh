#!/usr/bin/env bash
# Runs the image of deploy/Containerfile, built by rbuild itself, in the pods of deploy/kubernetes, made by runc as a kubelet
# makes them, and prints what works in which. Needs root.
#
#   hack/pod/run.sh [REGEXP]      which: P1, P2, P4, P5b, P5c, P5d, P5u, P6, and kube for podman kube play (default: all)

# shellcheck source=hack/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=hack/testenv.sh
. "$ROOT/hack/testenv.sh"
# shellcheck source=hack/pod/pods.sh
. "$ROOT/hack/pod/pods.sh"
# shellcheck source=hack/pod/kubeplay.sh
. "$ROOT/hack/pod/kubeplay.sh"

main() {
  is_root || die "runc makes pods as root: run this as root"
  need skopeo "${TESTENV_PACKAGES[@]}"
  ensure_go
  ensure_user
  own_tree
  build "$TREE"
  trap 'stop_pods; stop_testenv' EXIT
  start_testenv
  push_distribution_bases
  pods "${1:-.*}"
  echo "$PODS_PASSED passed, $PODS_FAILED failed"
  [ "$PODS_FAILED" = 0 ]
}

main "$@"
