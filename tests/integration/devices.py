#!/usr/bin/env python3
"""Build as real root on an image that brings device nodes, and look whether a step opens one or a layer carries one on.

  devices.py RBUILD BASE DIR

RBUILD is the program with its store: a command line, split at spaces. BASE is an OCI layout of an image with a shell. Prints
"NAME held", or BROKEN with the reason. The disk is a loop device over a file where the machine has one, so that a hole in the
defence harms nothing; /dev/zero stands beside it everywhere.
"""
import glob, json, os, stat, subprocess, sys, tarfile

from hostile import BLK, CHR, DIR, SYM, Layout, entry, tarball

CANARY = b"host-canary-77 on a disk"
# Each prints "present" if the node is there, what it could read, and WRITTEN if it could write.
PROBE = """probe() { for n in disk zero; do { [ -b $1/$n ] || [ -c $1/$n ]; } && echo present; head -c 24 $1/$n 2>/dev/null | tr '\\\\0' Z; \\
  [ ! -e $1/$n ] || { echo owned > $1/$n; } 2>/dev/null && [ -e $1/$n ] && echo WRITTEN; done; }"""

# Steps of one Dockerfile each: name -> text, flags, and whether the nodes must be seen by the step. HOSTILE is the image.
STEPS = {
    "read and write": ("FROM HOSTILE\nRUN PROBE; probe /devs; true", (), True),
    "in a stage": ("FROM HOSTILE AS a\nFROM localhost/clean:1\nRUN --mount=from=a,target=/m PROBE; probe /m/devs; true\nCOPY --from=a / /c/", (), True),
    "bind mount": ("FROM localhost/clean:1\nRUN --mount=from=HOSTILE,target=/m PROBE; probe /m/devs; true", (), True),
    "writable bind mount": ("FROM localhost/clean:1\nRUN --mount=from=HOSTILE,target=/m,source=/devs,rw PROBE; probe /m; mv /m/disk /m/d; true", (), True),
    "cache": ("FROM localhost/clean:1\nRUN --mount=type=cache,from=HOSTILE,target=/m PROBE; probe /m/devs; true", (), False),
    "copy up": ("FROM HOSTILE\nRUN mv /devs/disk /d; ln /devs/zero /z; chmod 600 /devs/zero; cp -a /devs /e; PROBE; probe /e; true", (), False),
    "COPY --from": ("FROM localhost/clean:1\nCOPY --from=HOSTILE /devs /devs\nRUN PROBE; probe /devs; true", (), False),
    "COPY --from of all": ("FROM localhost/clean:1\nCOPY --link --from=HOSTILE / /all/", (), False),
    "ADD of a tar": ("FROM localhost/clean:1\nADD nodes.tar /\nRUN PROBE; probe /devs; true", (), False),
    "squashed": ("FROM HOSTILE\nRUN PROBE; probe /devs; true", ("--squash",), True),
    "one layer": ("FROM HOSTILE\nRUN PROBE; probe /devs; true\nUSER nobody\nCOPY nodes.tar /", ("--layers=false",), True),
    "volume": ("FROM HOSTILE\nVOLUME /devs\nRUN PROBE; probe /devs; true", ("--compat-volumes",), True),
    "directory of the host": ("FROM localhost/clean:1\nRUN PROBE; probe /host; true", ("--volume", "NODES:/host"), True),
    "all capabilities": ("FROM HOSTILE\nRUN mount -o remount,bind,dev /; PROBE; probe /devs; true",
                         ("--cap-add", "all", "--security-opt", "seccomp=unconfined"), True),
    "insecure": ("FROM HOSTILE\nRUN --security=insecure mount -o remount,bind,dev /; mount -o remount,dev /; PROBE; probe /devs; \\\n"
                 "  mkdir -p /t && mount -t tmpfs t /t && mknod /t/zero c 1 5; probe /t; \\\n"
                 "  unshare -m sh -c 'mount -o remount,bind,dev /; head -c 24 /devs/disk'; true",
                 ("--allow", "security.insecure"), True),
}


def sh(*args, **kw):
    return subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)


class Attack:
    def __init__(self, rbuild, base, work):
        self.rbuild, self.base, self.work, self.loop = rbuild.split(), base, work, None
        self.disk, self.context, self.nodes = work + "/disk", work + "/context", work + "/nodes"
        os.makedirs(self.context), os.makedirs(self.nodes)
        with open(self.disk, "wb") as f:
            f.write(CANARY.ljust(1 << 20, b"\0"))

    def attach(self):
        made = sh("losetup", "-f", "--show", self.disk)
        if made.returncode == 0:
            self.loop = made.stdout.decode().strip()
            rdev = os.stat(self.loop).st_rdev
            return BLK, (os.major(rdev), os.minor(rdev))
        print("no loop device here, the disk is /dev/full:", made.stdout.decode().strip())
        return CHR, (1, 7)

    def image(self, kind, dev):
        made = [entry("devs", DIR), entry("devs/disk", kind, dev=dev, mode=0o666), entry("devs/zero", CHR, dev=(1, 5), mode=0o666)]
        with open(self.context + "/nodes.tar", "wb") as f:
            f.write(tarball(made))
        layout = Layout(self.base, self.work + "/image")
        # The third is made through a link that is gone afterwards: the name of its entry does not lead to it.
        layout.layer(tarball(made + [entry("alias", SYM, link="devs"), entry("alias/third", CHR, dev=(1, 5)), entry("/alias", DIR)]))
        self.hostile = layout.config["rootfs"]["diff_ids"][-1]
        layout.seal()
        self.make_nodes(self.nodes, kind, dev)
        return "oci:" + layout.path

    def build(self, text, flags=()):
        with open(self.work + "/Dockerfile", "w") as f:
            f.write(text.replace("PROBE", PROBE) + "\n")
        flags = [f.replace("NODES", self.nodes) for f in flags]
        done = sh(*self.rbuild, "build", "--no-cache", "--progress", "plain", "--allow", "fs.read=" + self.work, *flags, "-t", "carried",
                  "-f", self.work + "/Dockerfile", self.context, timeout=600)
        out = done.stdout.decode("utf8", "replace")
        # The commands are printed too.
        return done.returncode, out, [l for l in out.splitlines() if "probe" not in l]

    def disk_changed(self):
        return open(self.disk, "rb").read(len(CANARY)) != CANARY

    def carried(self):
        """Devices in layers that the build made."""
        out = self.work + "/pushed"
        sh("rm", "-rf", out)
        done = sh(*self.rbuild, "push", "carried", "oci:" + out)
        if done.returncode != 0:
            return ["not pushed: " + done.stdout.decode()]
        index = json.load(open(out + "/index.json"))
        blob = lambda d: out + "/blobs/sha256/" + d["digest"].split(":")[1]
        manifest = json.load(open(blob(index["manifests"][0])))
        ids = json.load(open(blob(manifest["config"])))["rootfs"]["diff_ids"]
        found = []
        for id, layer in zip(ids, manifest["layers"]):
            if id != self.hostile: # which stays as it was pulled
                found += [m.name for m in tarfile.open(blob(layer)) if m.ischr() or m.isblk()]
        return found

    def judge(self, text, flags=(), seen=False):
        code, out, lines = self.build(text, flags)
        if code != 0:
            return "fails\n" + out
        if seen != ("present" in lines):
            return "the nodes are%s in the image\n%s" % (" not" if seen else "", out)
        if CANARY.decode() in out or "Z" * 24 in out:
            return "read a device\n" + out
        if "WRITTEN" in lines or self.disk_changed():
            return "wrote to a device\n" + out
        found = self.carried()
        return "carries on %s\n%s" % (found, out) if found else ""

    @staticmethod
    def make_nodes(where, kind, dev):
        for name, mode, dev in (("disk", stat.S_IFBLK if kind == BLK else stat.S_IFCHR, dev), ("zero", stat.S_IFCHR, (1, 5))):
            os.mknod(where + "/" + name, mode | 0o666, os.makedev(*dev))
            os.chmod(where + "/" + name, 0o666)

    def plant(self, store, kind, dev):
        """Puts the nodes where another engine, started by root, would have made them."""
        dirs = glob.glob(store + "/overlay/*/diff/devs")
        left = [p for d in dirs for p in glob.glob(d + "/*")]
        for d in dirs:
            sh("rm", "-rf", *glob.glob(d + "/*"))
            self.make_nodes(d, kind, dev)
        return dirs, left


def main():
    rbuild, base, work = sys.argv[1:4]
    a = Attack(rbuild, base, os.path.abspath(work))
    store = a.rbuild[a.rbuild.index("--root") + 1]
    results = {}
    try:
        kind, dev = a.attach()
        image = a.image(kind, dev)
        results["pulled"] = a.judge("FROM %s\nRUN PROBE; probe /devs; true" % image)
        for name, source in (("hostile", image), ("clean", "oci:" + base)):
            id = sh(*a.rbuild, "pull", "-q", source).stdout.decode().split()[-1]
            sh(*a.rbuild, "tag", id, "localhost/%s:1" % name)
        dirs, left = a.plant(store, kind, dev)
        results["nothing on disk"] = "" if len(dirs) == 1 and not left else "directories %s with %s" % (dirs, left)
        for name, (text, flags, seen) in STEPS.items():
            # Without cgroups, which are the second line.
            results[name] = a.judge(text.replace("HOSTILE", "localhost/hostile:1"), ("--cgroup-manager", "disabled", *flags), seen)
        results["exported"] = exported(a)
        results["needed devices"] = needed(a)
    finally:
        if a.loop:
            sh("losetup", "-d", a.loop)
    for name, reason in results.items():
        print("BROKEN %s: %s" % (name, reason) if reason else name + " held", flush=True)
    print("held", sum(not r for r in results.values()))


def exported(a):
    out = a.work + "/files.tar"
    code, text, _ = a.build("FROM localhost/hostile:1\nCOPY nodes.tar /", ("--output", "type=tar,dest=" + out, "--output", "type=local,dest=" + a.work + "/files"))
    if code != 0 or "2 devices are left out, devs/disk the first" not in text:
        return "no warning\n" + text
    names = [m.name for m in tarfile.open(out) if m.ischr() or m.isblk()]
    return "exports %s" % names if names or os.listdir(a.work + "/files/devs") else ""


def needed(a):
    """What a step needs: its own devices, those that the command line names, and setuid programs."""
    code, text, _ = a.build("""FROM localhost/clean:1
RUN echo x > /dev/null && [ $(head -c 4 /dev/urandom | wc -c) = 4 ] && echo own devices
RUN [ $(head -c 4 /dev/given | wc -c) = 4 ] && echo given device
RUN [ $(head -c 4 /bound | wc -c) = 4 ] && echo bound device
RUN [ $(head -c 4 /host/zero 2>/dev/null | wc -c) = 0 ] && echo no other
RUN l=/sys/fs/cgroup/devices$(sed -n 's/.*:devices://p' /proc/self/cgroup); case $l in */run-*) ! grep ^a $l/devices.list;; esac && echo second line
RUN ! grep ' / / ' /proc/self/mountinfo | grep nosuid && echo setuid""",
                            ("--device", "/dev/zero:/dev/given", "--volume", "/dev/zero:/bound", "--volume", a.nodes + ":/host"))
    missing = [w for w in ("own devices", "given device", "bound device", "no other", "second line", "setuid") if "\n%s\n" % w not in text]
    return "lacks %s\n%s" % (missing, text) if code or missing else ""


if __name__ == "__main__":
    main()
