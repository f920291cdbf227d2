#!/usr/bin/env python3
"""Time rbuild, buildah and podman on the same builds, and one RUN step on the bare kernel; run.sh sets it up.

  measure.py --rbuild PATH --floor PATH --work DIR [--quick] [--only RE]
"""
import argparse, atexit, os, re, signal, statistics, subprocess, sys, tempfile, time

BASE = "docker.io/library/busybox:latest"
CONF = {
    "storage.conf": '[storage]\ndriver = "overlay"\ngraphroot = "%(home)s/root"\nrunroot = "%(run)s/containers"\n',
    "containers.conf": '[containers]\nnetns = "host"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
    "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
}


def runtime_parent(home):
    return "/dev/shm" if os.path.ismount("/dev/shm") and os.access("/dev/shm", os.W_OK) else home


def remove_tree(directory):
    """Removes files of subordinate ids too."""
    subprocess.run(["unshare", "--map-root-user", "--map-auto", "rm", "-rf", directory], check=False)


def leave(run):
    """Ends podman's pause process, and removes the runtime directory."""
    try:
        with open(run + "/libpod/tmp/pause.pid") as f:
            os.kill(int(f.read()), signal.SIGKILL)
    except (OSError, ValueError):
        pass
    remove_tree(run)


class Engine:
    """An engine with a home, and so a store, of its own."""

    def __init__(self, name, build, work):
        self.name, self.build = name, build
        home = os.path.join(work, name)
        conf = os.path.join(home, ".config", "containers")
        os.makedirs(conf)
        run = tempfile.mkdtemp(prefix="bench.", dir=runtime_parent(home))  # the runtime directory is on tmpfs, as by default
        atexit.register(leave, run)
        for file, text in CONF.items():
            with open(os.path.join(conf, file), "w") as f:
                f.write(text.replace("%(home)s", home).replace("%(run)s", run))
        self.env = dict(os.environ, HOME=home, XDG_RUNTIME_DIR=run, TMPDIR=home, BUILDAH_RUNTIME="runc")

    def run(self, argv):
        """-> seconds and peak resident memory, in bytes, of the largest process."""
        with open(os.path.join(self.env["HOME"], "log"), "w+") as log:
            start = time.perf_counter()
            p = subprocess.Popen(argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            _, status, usage = os.wait4(p.pid, 0)
            seconds = time.perf_counter() - start
            p.returncode = os.waitstatus_to_exitcode(status)
            if p.returncode != 0:
                log.seek(0)
                sys.exit("%s: %s\n%s" % (self.name, " ".join(argv), log.read()[-2000:]))
            return seconds, usage.ru_maxrss * 1024

    def bud(self, context, *flags):
        return self.run(self.build + ["-t", "localhost/bench", *flags, context])

    def pull(self):
        self.run([self.build[0], "pull", BASE])

    def remove(self):
        """Removes the image, which is only in the way of the next measurement."""
        subprocess.run([self.build[0], "rmi", "-f", "localhost/bench"], env=self.env, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)


def engines(a):
    isolation = [] if works(a.work) else ["--isolation", "chroot"]
    return [Engine("rbuild", [a.rbuild, "bud", "--network", "host"], a.work),
            Engine("buildah", ["buildah", "bud", "--layers", "--network", "host"] + isolation, a.work),
            Engine("podman", ["podman", "build", "--layers", "--network", "host"] + isolation, a.work)]


def works(work):
    """Whether buildah can run a step with its default isolation here; with chroot it does less, and is faster."""
    probe = Engine("probe", ["buildah"], work)
    context = write_context(os.path.join(work, "probe-context"), "FROM %s\nRUN true\n" % BASE)
    return subprocess.run(["buildah", "bud", "--network", "host", context], env=probe.env, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


# -------------------------------------------------------------------------------------------------------- contexts
def write_context(directory, dockerfile, files=()):
    os.makedirs(directory)
    with open(os.path.join(directory, "Dockerfile"), "w") as f:
        f.write(dockerfile)
    for name, size in files:
        path = os.path.join(directory, "data", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            while size > 0:
                f.write(os.urandom(min(size, 1 << 20)))
                size -= 1 << 20
    return directory


def steps(n):
    return "".join("RUN echo %d\n" % i for i in range(n))


def many(n):
    return [("%02d/f%d" % (i % 100, i), 1000) for i in range(n)]


# ------------------------------------------------------------------------------------------------------ benchmarks
def floor(a, engine):
    """Milliseconds of each of many steps on the bare kernel, over the base image's layer; the engine exports it."""
    base = os.path.join(engine.env["HOME"], "base")
    engine.run([engine.build[0], "push", BASE, "dir:" + base])
    blob = max((os.path.join(base, f) for f in os.listdir(base)), key=os.path.getsize)
    lower, scratch = base + "/lower", base + "/scratch"
    os.mkdir(lower)
    os.mkdir(scratch)
    subprocess.run(["tar", "-xzf", blob, "-C", lower], check=True)
    for d in ("proc", "sys", "dev"):
        os.makedirs(os.path.join(lower, d), exist_ok=True)
    out = subprocess.run(["unshare", "--map-root-user", "--map-auto", "--mount", a.floor, str(a.reps * 40), lower, scratch, "echo x > /f"],
                         stdout=subprocess.PIPE, check=True).stdout
    return [float(x) for x in out.split()]


def uncached(engine, context, reps, *flags):
    out, peak = [], 0
    for _ in range(reps):
        seconds, memory = engine.bud(context, "--no-cache", *flags)
        out.append(seconds * 1000)
        peak = max(peak, memory)
        engine.remove()
    return out, peak


def cached(engine, context, reps):
    engine.bud(context)
    engine.bud(context)
    out = [engine.bud(context)[0] * 1000 for _ in range(reps * 2)]
    engine.remove()
    return out


class Table:
    def __init__(self, names):
        self.names = names
        print("%-44s" % "median, ms" + "".join("%12s" % n for n in names) + "".join("%12s" % ("x " + n) for n in names[1:]), flush=True)

    def row(self, what, medians, ratios=True):
        mine = medians[0]
        cells = "".join("%12.1f" % m for m in medians)
        print("%-44s" % what + cells + ("".join("%12.1f" % (m / mine) for m in medians[1:]) if ratios else ""), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rbuild", required=True)
    ap.add_argument("--floor", required=True)
    ap.add_argument("--work", required=True)
    ap.add_argument("--quick", action="store_true", help="fewer repetitions, smaller files")
    ap.add_argument("--only", default="", metavar="RE", help="only the rows that match")
    a = ap.parse_args()
    a.reps = 2 if a.quick else 5
    os.makedirs(a.work)
    try:
        measure(a)
    finally:
        remove_tree(a.work)


def measure(a):
    everyone = engines(a)
    for e in everyone:
        e.pull()
    wanted = lambda what: re.search(a.only, what)
    n, size = (1000, 64 << 20) if a.quick else (10000, 1 << 30)
    print("isolation of buildah and podman: %s" % ("chroot" if "chroot" in everyone[1].build else "their default, with runc"))
    table, step = Table([e.name for e in everyone]), 0
    if wanted("RUN"):
        context = write_context(a.work + "/run", "FROM %s\n" % BASE + steps(20))
        medians = [statistics.median(uncached(e, context, a.reps)[0]) / 20 for e in everyone]
        table.row("RUN echo, not cached: one of 20 steps, all in", medians)
        least = statistics.median(floor(a, everyone[1]))
        print("%-44s%12.2f  (rbuild needs %.1f times that)" % ("floor of one RUN step on this kernel", least, medians[0] / least), flush=True)
    if wanted("cached"):
        context = write_context(a.work + "/cached", "FROM %s\nCOPY data /data\n" % BASE + steps(19), many(1000))
        table.row("20 steps and 1,000 files, cached: in whole", [statistics.median(cached(e, context, a.reps)) for e in everyone])
    if wanted("small"):
        context = write_context(a.work + "/small", "FROM %s\nCOPY data /data\n" % BASE, many(n))
        table.row("COPY of %d small files" % n, [statistics.median(uncached(e, context, min(a.reps, 3))[0]) for e in everyone])
    if wanted("large"):
        context = write_context(a.work + "/large", "FROM %s\nCOPY data /data\n" % BASE, [("one", size)])
        results = [uncached(e, context, min(a.reps, 3)) for e in everyone]
        table.row("COPY of one file of %d MiB" % (size >> 20), [statistics.median(r[0]) for r in results])
        table.row("  peak memory of the largest process, MB", [r[1] / 1e6 for r in results])


if __name__ == "__main__":
    main()
