#!/usr/bin/env python3
"""Build on hostile images, which no engine would make, and look whether anything outside was read or written.

  hostile.py [--plain] RBUILD BASE DIR [NAME...]

--plain builds without a user namespace (restricted.py), with COPY in place of RUN; what is refused is not compared then.
BASE is an OCI layout of an image with a shell; DIR is where images, contexts and what lies outside are made. Prints "NAME held",
or BROKEN with the reason.
"""
import gzip, hashlib, io, itertools, json, os, re, subprocess, sys, tarfile

CANARY = "host-canary-77"
COUNT = itertools.count()  # a layer that is in the store already is not looked at again
REG, LINK, SYM, CHR, BLK, DIR, FIFO = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                       tarfile.DIRTYPE, tarfile.FIFOTYPE)
UP = "../" * 30


def entry(name, kind=REG, data=b"", link="", mode=0o755, pax=None, uid=0, gid=0, dev=(0, 0), mtime=1):
    t = tarfile.TarInfo(name)
    t.type, t.linkname, t.mode, t.uid, t.gid, t.size, t.mtime = kind, link, mode, uid, gid, len(data), mtime
    t.devmajor, t.devminor = dev
    t.pax_headers = pax or {}
    return t, data


def tarball(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for t, data in entries:
            tar.addfile(t, io.BytesIO(data))
    return out.getvalue()


def header(name, size, kind):
    """A bare header block, for what tarfile refuses to write; size may be any."""
    t = tarfile.TarInfo(name)
    t.type, t.size, t.mode = kind, size, 0o644
    return t.tobuf(tarfile.GNU_FORMAT)


class Layout:
    """An OCI layout that is BASE with further layers."""

    def __init__(self, base, path):
        self.path = path
        os.makedirs(path + "/blobs/sha256")
        for name in os.listdir(base + "/blobs/sha256"):
            os.link(base + "/blobs/sha256/" + name, path + "/blobs/sha256/" + name)
        open(path + "/oci-layout", "w").write('{"imageLayoutVersion": "1.0.0"}')
        index = json.load(open(base + "/index.json"))
        self.manifest = self.read(index["manifests"][0])
        self.config = self.read(self.manifest["config"])

    def read(self, descriptor):
        return json.load(open(self.path + "/blobs/sha256/" + descriptor["digest"].split(":")[1]))

    def blob(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        with open(self.path + "/blobs/sha256/" + digest, "wb") as f:
            f.write(data)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}

    def layer(self, tar):
        self.manifest["layers"].append(self.blob(gzip.compress(tar, 1), "layer.v1.tar+gzip"))
        self.config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(tar).hexdigest())
        self.config.setdefault("history", []).append({"created_by": "hostile"})

    def seal(self, config=None, manifest=None):
        """Writes config and manifest; the functions spoil them before."""
        (config or (lambda c: None))(self.config)
        self.manifest["config"] = self.blob(json.dumps(self.config).encode(), "config.v1+json")
        (manifest or (lambda m: None))(self.manifest)
        descriptor = self.blob(json.dumps(self.manifest).encode(), "manifest.v1+json")
        json.dump({"schemaVersion": 2, "manifests": [descriptor]}, open(self.path + "/index.json", "w"))


class Case:
    """One attack: the entries (or bytes) of a layer, what the Dockerfile does with the image, and what must come of it: a
    pattern of the error, or None if the build may pass (what is outside must then be as it was all the same)."""

    def __init__(self, layer, steps="RUN true", error=None, config=None, manifest=None, says=None, flags=()):
        self.layer, self.steps, self.error, self.config, self.manifest, self.says, self.flags = layer, steps, error, config, manifest, says, flags


def set_size(value):
    return lambda m: m["layers"][-1].update(size=value)


def set_config(**fields):
    return lambda c: c.setdefault("config", {}).update(fields)


def cases(out):
    """The table. OUT is the directory outside, which the entries try to reach."""
    lead_out = "refusing the layer"
    overlay = lambda key: [entry("d", DIR, pax={"SCHILY.xattr." + key: "y"})]
    etc = lambda e: [e]
    user = "USER canary\nRUN true"
    copy = "COPY --chown=canary f /copied"
    forged = lambda c: c.update(history=[{"created_by": "RUN /bin/sh -c echo forged", "empty_layer": False}] * len(c["rootfs"]["diff_ids"]))
    return {
        # Names, links and types in layers.
        "dot-dot name": Case([entry("../outside/new", data=b"x")], error=lead_out),
        "dot-dot within": Case([entry("a/../../outside/new", data=b"x")], error=lead_out),
        "hard link out": Case([entry("h", LINK, link="../outside/canary"), entry("h", data=b"x")], error=lead_out),
        "absolute hard link": Case([entry("h", LINK, link=out + "/canary")], error="."),
        "through a link": Case([entry("l", SYM, link=out), entry("l/new", data=b"x")], error=lead_out),
        "through a relative link": Case([entry("l", SYM, link=UP + out[1:]), entry("l/canary", data=b"x")], error=lead_out),
        "hard link through a link": Case([entry("l", SYM, link=out), entry("h", LINK, link="l/canary")], error="."),
        "root is a link": Case([entry(".", SYM, link=out), entry("new", data=b"x")], error="."),
        "root is a link, with a slash": Case([entry("./", SYM, link=out), entry("new", data=b"x")], error="."),
        "root is a file": Case([entry(".", data=b"x")], error="."),
        "whiteout of the parent": Case([entry("bin/.wh...")], error="whiteout of no file"),
        "whiteout of nothing": Case([entry("bin/.wh.")], error="whiteout of no file"),
        "whiteout of a mark": Case([entry("bin/.wh..wh.x")], steps="RUN ls /bin/sh"),
        "whiteout through a link": Case([entry("l", SYM, link=out), entry("l/.wh.canary")], error=lead_out),
        "opaque through a link": Case([entry("l", SYM, link=out), entry("l/.wh..wh..opq")], error=lead_out),
        "user.overlay.opaque": Case(overlay("user.overlay.opaque"), error="overlayfs"),
        "user.overlay.redirect": Case(overlay("user.overlay.redirect"), error="overlayfs"),
        "trusted.overlay.opaque": Case(overlay("trusted.overlay.opaque"), error="overlayfs"),
        "nested overlay mark": Case(overlay("user.overlay.overlay.opaque"), error="overlayfs"),
        "memory as a device": Case([entry("mem", CHR, dev=(1, 1), mode=0o666), entry("sda", BLK, dev=(8, 0), mode=0o666)],
                                   steps="RUN dd if=/mem bs=1 count=1 || dd if=/sda bs=1 count=1", error="."),
        "device": Case([entry("devs/zero", CHR, dev=(1, 5), mode=0o666)], steps="RUN [ -d /devs ] && ! ls /devs/zero",
                       says='\\"devs/zero\\" is a device and left out'),
        "hard link to a device": Case([entry("zero", CHR, dev=(1, 5)), entry("h", LINK, link="./zero")], error="is a hard link to the device"),
        "whiteout device": Case([entry("bin", CHR, dev=(0, 0))], steps="RUN ls /bin/sh"),
        "owner that is not mapped": Case([entry("f", uid=4000000000, gid=4000000000)], error="." if os.getuid() else None),
        "capabilities of the host's root": Case([entry("f", data=b"x", pax={"SCHILY.xattr.security.capability": "\1\0\0\3" + "\x7f" * 16 + "\0" * 4})],
                                                steps="RUN stat /f"),
        "time out of range": Case([entry("f", data=b"x", pax={"mtime": "1" + "0" * 25})], error="."),
        # Sizes.
        "sparse bomb": Case(header("bomb", 1 << 62, REG) + b"\0" * 1024, error="."),
        "sparse map bomb": Case([entry("GNUSparseFile.0/x", data=b"1\n0\n%d\n" % (1 << 61) + b"\0" * 500, pax={
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": str(1 << 61)})], error="."),
        "extended header of 1 GiB": Case(header("pax", 1 << 30, b"x") + b"\0" * (8 << 20), error="."),
        "long name of 1 GiB": Case(header("name", 1 << 30, b"L") + b"a" * (8 << 20), error="."),
        "cut in a file": Case(header("f", 1 << 20, REG) + b"x" * 1000, error="."),
        # Lies.
        "size too small": Case([entry("f", data=b"%d" % next(COUNT))], manifest=set_size(1), error="."),
        "negative size": Case([entry("f", data=b"%d" % next(COUNT))], manifest=set_size(-1), error="."),
        "size beyond all": Case([entry("f", data=b"%d" % next(COUNT))], manifest=set_size(1 << 62), error="."),
        "other diff_id": Case([entry("f", data=b"%d" % next(COUNT))], config=lambda c: c["rootfs"]["diff_ids"].__setitem__(-1, "sha256:" + "0" * 64), error="."),
        "no diff_id": Case([entry("f", data=b"%d" % next(COUNT))], config=lambda c: c["rootfs"]["diff_ids"].pop(), error="."),
        "a path as digest": Case([entry("f", data=b"%d" % next(COUNT))], manifest=lambda m: m["layers"][-1].update(digest="sha256:" + UP + out[1:] + "/canary"), error="."),
        "a path as algorithm": Case([entry("f", data=b"%d" % next(COUNT))], manifest=lambda m: m["layers"][-1].update(digest="../../" + "0" * 64), error="."),
        "a path as diff_id": Case([entry("f", data=b"%d" % next(COUNT))], config=lambda c: c["rootfs"]["diff_ids"].__setitem__(-1, UP + out[1:]), error="."),
        "manifest and index": Case([entry("f", data=b"%d" % next(COUNT))], manifest=lambda m: m.update(manifests=[m["config"]]), error="."),
        "foreign layer": Case([entry("f", data=b"%d" % next(COUNT))], manifest=lambda m: m["layers"].append(
            {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": "sha256:" + "1" * 64, "size": 3,
             "urls": ["file://" + out + "/canary", "http://127.0.0.1:9/x"]}), error="."),
        "forged history": Case([entry("f", data=b"%d" % next(COUNT))], config=forged, steps="RUN echo forged | rev", says="degrof"),
        # Where RUN mounts, and what it reads to start.
        "proc leads out": Case([entry("proc", SYM, link=out)], error="."),
        "proc leads up": Case([entry("proc", SYM, link=UP + out[1:])], error="."),
        "sys leads out": Case([entry("sys", SYM, link=out)], error="."),
        "dev leads out": Case([entry("dev", SYM, link=out)], error="."),
        "dev leads to proc": Case([entry("dev", SYM, link="/proc")], error="."),
        "dev is a file": Case([entry("dev", data=b"x")], error="."),
        "null is a link": Case([entry("dev/null", SYM, link=out + "/canary")], steps="RUN echo x > /dev/null"),
        "null is a file": Case([entry("dev/null", data=b"x")], steps="RUN echo x > /dev/null; test -c /dev/null"),
        "console is a link": Case([entry("dev/console", SYM, link=out + "/canary")], steps="RUN echo x > /dev/console || true"),
        "pts leads out": Case([entry("dev/pts", SYM, link=out), entry("dev/shm", SYM, link=out)], steps="RUN echo x > /dev/shm/new; ls /dev/pts"),
        "etc leads out": Case([entry("etc", SYM, link=UP + out[1:])], steps="RUN echo x >> /etc/hosts; cat /etc/passwd /etc/canary || true"),
        "hosts leads out": Case([entry("etc/hosts", SYM, link=out + "/canary")], steps="RUN echo x >> /etc/hosts; cat /etc/hosts"),
        "hosts leads to proc": Case([entry("etc/hosts", SYM, link="/proc/self/fd/3")], error="."),
        "resolv.conf leads to proc": Case([entry("etc/resolv.conf", SYM, link="/proc/self/root/" + UP + out[1:] + "/canary")], error="."),
        "resolv.conf leads up": Case([entry("etc/resolv.conf", SYM, link=UP + out[1:] + "/canary")], steps="RUN cat /etc/resolv.conf; echo x >> /etc/resolv.conf || true"),
        "masked path is a link": Case([entry("proc/kcore", SYM, link=out + "/canary"), entry("sys/firmware", SYM, link=out)]),
        "secrets lead out": Case([entry("run", SYM, link=out)], steps="RUN --mount=type=secret,id=s cat /run/secrets/s | rev", says="terces"),
        "stubs lead out": Case([entry("m", SYM, link=out)], steps="RUN --mount=type=tmpfs,target=/m/deep touch /m/deep/new\nRUN --mount=type=cache,target=/m/new touch /m/new/x"),
        "interpreter is the builder": Case([entry("run.sh", data=b"#!/proc/self/exe\n")], steps='RUN ["/run.sh"]', error="."),
        "shell is the builder": Case([entry("bin/sh", SYM, link="/proc/self/exe")], error="a link of /proc"),
        "program behind a descriptor": Case([entry("p", SYM, link="/proc/self/fd/3")], steps='RUN ["/p"]', error="a link of /proc"),
        # What the configuration says of the process and its mounts.
        "directory of the configuration is a descriptor": Case([], config=set_config(WorkingDir="/proc/self/fd/7"), error="too many levels|no such file"),
        "directory of the configuration leads up": Case([], steps="COPY f new\nRUN pwd; ls -d ." + out + " && exit 1; true",
                                                        config=set_config(WorkingDir=UP + out[1:])),
        "user of the configuration leads out": Case([], config=set_config(User="../.." + out + "/canary"), error="."),
        "user of the configuration has a line": Case([], config=set_config(User="root:x\nroot"), error="."),
        "environment with a NUL": Case([], config=set_config(Env=["A=b\0c"]), error="NUL"),
        "environment without a name": Case([], config=set_config(Env=["=x", "nothing", "PATH=/bin"])),
        "path through descriptors": Case([], steps='RUN ["canary"]', config=set_config(Env=["PATH=/proc/self/fd:/proc/1/root" + out + ":."]), error="a link of /proc"),
        "volume leads up": Case([entry("f", data=b"v")], steps="RUN echo x > /f", flags=["--compat-volumes"], config=set_config(Volumes={UP + out[1:]: {}})),
        "volume is a link out": Case([entry("v", SYM, link=out)], steps="RUN echo x > /v/new", flags=["--compat-volumes"], config=set_config(Volumes={"/v": {}})),
        "volume is a link to proc": Case([entry("v", SYM, link="/proc/self/root")], flags=["--compat-volumes"], config=set_config(Volumes={"/v/etc": {}}), error="."),
        "volume is /proc": Case([], flags=["--compat-volumes"], config=set_config(Volumes={"/proc": {}, "/dev": {}, "/": {}}), steps="RUN true || true", error="."),
        "trigger asks for the sandbox": Case([], config=set_config(OnBuild=["RUN --security=insecure true"]), error="refused"),
        "trigger reads outside": Case([], config=set_config(OnBuild=["COPY --from=oci:" + out + " / /x"]), error="."),
        "trigger copies from up": Case([], config=set_config(OnBuild=["COPY ../outside/canary /got", "RUN cat /got"]), error="."),
        "shell of the configuration is the builder": Case([], config=set_config(Shell=["/proc/self/exe", "version"]), error="a link of /proc"),
        # Directories, owners, users.
        "working directory leads out": Case([entry("w", SYM, link=out)], steps="WORKDIR /w/new\nRUN touch here"),
        "working directory leads up": Case([entry("w", SYM, link=UP + out[1:])], steps="WORKDIR /w/new/deep\nRUN touch here"),
        "working directory by proc": Case([entry("w", SYM, link="/proc/self/fd/7")], steps="WORKDIR /w\nRUN ls; touch new", error="too many levels"),
        "working directory is a descriptor": Case([], steps="WORKDIR /proc/self/fd/7\nRUN cat ../../../../.." + out + "/canary", error="too many levels"),
        "working directory is the root of init": Case([], steps="WORKDIR /proc/1/root\nRUN cat ." + out + "/canary", error="too many levels"),
        "working directory of a user leads out": Case([entry("w", SYM, link=out)], steps="USER 1234\nWORKDIR /w/new\nRUN pwd"),
        "destination leads out": Case([entry("d", SYM, link=out)], steps="COPY f /d/new\nCOPY f /d/canary\nADD f /d/\nADD a.tar /d/"),
        "destination leads up": Case([entry("d", SYM, link=UP + out[1:])], steps="COPY f /d/new\nCOPY --chown=1:1 --chmod=777 f /d/canary"),
        "destination leads to proc": Case([entry("d", SYM, link="/proc/self/cwd")], steps="COPY f /d/new"),
        "destination file leads out": Case([entry("d", SYM, link=out + "/canary")], steps="COPY f /d\nADD f /d"),
        "source leads out": Case([entry("s", SYM, link=out)], steps="RUN true\nFROM IMAGE\nCOPY --from=0 /s /got\nRUN find /got; cat /got/canary", error="."),
        "source file leads out": Case([entry("s", SYM, link=out + "/canary")], steps="RUN true\nFROM IMAGE\nCOPY --from=0 /s /got\nRUN cat /got", error="."),
        "source below a link": Case([entry("s", SYM, link=UP)], steps="RUN true\nFROM IMAGE\nCOPY --from=0 /s" + out + "/canary /got", error="."),
        "archive leads out": Case([], steps="ADD hostile.tar /x/", error="."),
        "archive through a link": Case([], steps="ADD linked.tar /x/\nRUN find /x"),
        "passwd leads out": Case([entry("etc/passwd", SYM, link=out + "/canary")], steps=user, error="canary.*not in the image"),
        "passwd leads up": Case([entry("etc/passwd", SYM, link=UP + out[1:] + "/canary")], steps=copy, error="canary.*not in the image"),
        "passwd is the environment": Case([entry("etc/passwd", SYM, link="/proc/self/environ")], steps=user, error="."),
        "passwd is a pipe": Case([entry("etc/passwd", FIFO)], steps=user, error="."),
        "group is a pipe": Case([entry("etc/group", FIFO)], steps="USER root:canary\nRUN true", error="."),
        "passwd is a directory": Case([entry("etc/passwd", DIR)], steps=copy, error="."),
        "passwd is a device": Case([entry("etc/passwd", SYM, link="/dev/zero")], steps=user, error="."),
        "passwd is huge": Case([entry("etc/passwd", data=b"x" * (40 << 20))], steps=user, error="more than 16777216 bytes"),
        "passwd has a million lines": Case([entry("etc/passwd", data=b"u:x:1:1::/:\n" * 1000000)], steps=user, error="."),
        "group has a million lines": Case([entry("etc/group", data=b"g:x:1:root\n" * 1000000)], steps="USER root\nRUN true"),
        "passwd with ids beyond all": Case([entry("etc/passwd", data=b"canary:x:-1:99999999999::/:/bin/sh\n")], steps=user, error="."),
    }


def outside(path):
    """All that can be seen of the directory outside."""
    seen = []
    for where, dirs, names in os.walk(path):
        for name in [""] + sorted(names):
            st = os.lstat(os.path.join(where, name))
            seen.append((where, name, st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_nlink))
    return seen, open(path + "/canary").read()


def prepare(work):
    out, context = work + "/outside", work + "/context"
    os.makedirs(out), os.makedirs(context)
    open(out + "/canary", "w").write("canary:x:4242:4242:%s:/:/bin/sh\n" % CANARY)
    open(context + "/f", "w").write("text\n")
    open(context + "/a.tar", "wb").write(tarball([entry("new", data=b"x"), entry("canary", data=b"x")]))
    open(context + "/hostile.tar", "wb").write(tarball([entry(UP + out[1:] + "/new", data=b"x")]))
    open(context + "/linked.tar", "wb").write(tarball([entry("l", SYM, link=out), entry("l/new", data=b"x"), entry("l/canary", data=b"x"),
                                                        entry("m", SYM, link=out), entry("m", DIR, mode=0o777)]))
    return out, context


def without_run(case):
    """The case with steps that need no namespace. They look at the files of the image: by names, owners, and whole."""
    steps = re.sub(r"(?m)^RUN .*$", "COPY f /copied", case.steps) + "\nCOPY --chown=5:6 f /l/new\nCOPY f /bin/new"
    return Case(case.layer, steps, None, case.config, case.manifest, None, [*case.flags, "-o", "type=tar,dest=/dev/null"])


def attempt(rbuild, base, work, number, name, case, out, context, plain):
    case = without_run(case) if plain else case
    layout = Layout(base, "%s/image%d" % (work, number))
    if case.layer:
        layout.layer(case.layer if isinstance(case.layer, bytes) else tarball(case.layer))
    layout.seal(case.config, case.manifest)
    image = "oci:" + layout.path
    open(work + "/Dockerfile", "w").write("FROM %s\n%s\n" % (image, case.steps.replace("IMAGE", image)))
    open(work + "/secret", "w").write("secret")
    before = outside(out)
    run = subprocess.run([*plain, rbuild, "bud", "--no-cache", *case.flags, "--allow", "fs.read=" + work, "--secret", "id=s,src=" + work + "/secret", "-f", work + "/Dockerfile", context],
                         capture_output=True, timeout=120, env=dict(os.environ, HOSTCANARY=CANARY))
    text = (run.stdout + run.stderr).decode("utf8", "replace")
    subprocess.run(["rm", "-rf", layout.path])
    if outside(out) != before:
        return "changed what is outside\n" + text
    if CANARY in text:
        return "read the canary\n" + text
    if "goroutine " in text:
        return "panics\n" + text
    if case.error and (run.returncode == 0 or not re.search(case.error, text)):
        return "no error with %s\n%s" % (case.error, text)
    if run.returncode != 0 and not case.error and not plain:
        return "fails\n" + text
    if case.says and case.says not in text:
        return "does not say %s\n%s" % (case.says, text)
    return ""


def main():
    plain = [sys.executable, os.path.dirname(os.path.abspath(__file__)) + "/../restricted.py"] if "--plain" in sys.argv else []
    rbuild, base, work, *only = [a for a in sys.argv[1:] if a != "--plain"]
    work = os.path.abspath(work)
    out, context = prepare(work)
    held = 0
    for number, (name, case) in enumerate(cases(out).items()):
        if only and name not in only:
            continue
        reason = attempt(rbuild, base, work, number, name, case, out, context, plain)
        held += not reason
        print("BROKEN %s: %s" % (name, reason) if reason else name + " held", flush=True)
    print("held", held)


if __name__ == "__main__":
    main()
