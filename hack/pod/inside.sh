#!/bin/sh
# The command of each pod of hack/pod: tries what rbuild can do here, and leaves the output and exit code of each attempt in
# /var/lib/rbuild/out. The contexts lie beside this script.
cd /pod || exit 1
out=/var/lib/rbuild/out
mkdir "$out" || exit 1
echo the files of the pod >/tmp/canary

# try NAME COMMAND... keeps what a command prints, and its exit code.
try() {
  name=$1
  shift
  "$@" >"$out/$name" 2>&1 </dev/null
  echo $? >"$out/$name.code"
}

# owners exports an image that a RUN gave a file of another owner, and shows that.
owners() { rbuild bud -o type=tar,dest=/var/lib/rbuild/out.tar run && tar -tvf /var/lib/rbuild/out.tar --numeric-owner x; }

# norun shows the owner of a file that was copied.
norun() { rbuild bud -o type=tar,dest=/var/lib/rbuild/out.tar norun && tar -tvf /var/lib/rbuild/out.tar --numeric-owner srv/file; }

try map rbuild unshare cat /proc/self/uid_map
try doctor rbuild doctor
try unpulled rbuild bud unpulled
try overlay rbuild --root /tmp/storage --runroot /tmp/run bud unpulled
try limits rbuild bud -m 64m unpulled
try small rbuild bud small
try run rbuild bud -t localhost/run run
try owners owners
try norun norun
try push rbuild bud --push --tls-verify=false -t "$PUSH_TO/app" norun
try apt rbuild bud -t localhost/apt apt
: >"$out/end"
