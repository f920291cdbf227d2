#!/usr/bin/env bash
# Runs integration scripts inside the machine that hack/vm/run.sh has booted, in its user's session.
#
#   inside.sh NAMES      what to run, for go test's -run
HACK=$(dirname "${BASH_SOURCE[0]}")/..
# shellcheck source=hack/lib.sh
. "$HACK/lib.sh"
# shellcheck source=hack/testenv.sh
. "$ROOT/hack/testenv.sh"

PARALLEL=()
case $1 in TestMachine*) PARALLEL=(-test.parallel 1) ;; esac # what one script switches off, others need

ensure_user
TREE=$ROOT
trap stop_testenv EXIT
start_testenv
env -C "$ROOT/tests/integration" "RBUILD_BIN=/opt/rbuild/bin/rbuild" "TMPDIR=$WORK" VM=1 \
  /opt/rbuild/integration.test -test.v -test.timeout 20m "${PARALLEL[@]}" -test.run "^${1%%/*}\$/${1#*/}"
