#!/usr/bin/env python3
"""Read images of the store through skopeo and Python's tarfile, for the scripts.

  image.py config IMAGE            the configuration, as JSON
  image.py files IMAGE             each path of the flattened image: mode uid:gid type path
  image.py layertree IMAGE STORE   compare each layer's tar with the layer's directory in the store
"""
import hashlib, json, os, stat, struct, subprocess, sys, tarfile, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "conformance"))
import check

IN_NAMESPACE = ["unshare", "--map-root-user", "--map-auto"]
OVERLAY_XATTRS = ("user.overlay.", "trusted.overlay.")


def export(image, directory):
    if ":" not in image.split("/")[-1]:
        image += ":latest"
    if "/" not in image:
        image = "localhost/" + image
    source = "containers-storage:" + image
    subprocess.run(["skopeo", "copy", "--quiet", source, "dir:" + directory], check=True, stdout=sys.stderr)
    return directory


def config(image):
    with tempfile.TemporaryDirectory() as d:
        manifest = json.load(open(export(image, d) + "/manifest.json"))
        print(open(os.path.join(d, manifest["config"]["digest"].split(":")[1])).read())


def files(image):
    with tempfile.TemporaryDirectory() as d:
        tree, _ = check.load_dir(export(image, d))
    for path in sorted(tree):
        e = tree[path]
        line = "%s %d:%d %s /%s" % (e.get("mode", "-"), e["uid"], e["gid"], e["type"], path)
        if "link" in e:
            line += " -> " + e["link"]
        if "size" in e:
            line += " size=%d sha256=%s" % (e["size"], e["sha256"][:16])
        if "xattrs" in e:
            line += " " + json.dumps(e["xattrs"], sort_keys=True)
        print(line.encode("utf8", "backslashreplace").decode())


# ------------------------------------------------------------------------------------------------------- layertree
def capability_v2(value, root):
    """A file capability of the namespace whose root is `root`, as an image stores it."""
    magic = struct.unpack("<I", value[:4])[0]
    if magic & 0xff000000 == 0x03000000:
        return struct.pack("<I", 0x02000000 | magic & 1) + value[4:20]
    return value


def from_directory(top):
    """name -> what a layer's tar must say of each entry below an upper directory."""
    out, inodes = {}, {}
    for parent, dirs, names in os.walk(os.fsencode(top)):
        for n in dirs + names:
            path = os.path.join(parent, n)
            name = os.path.relpath(path, os.fsencode(top))
            st = os.lstat(path)
            if stat.S_ISSOCK(st.st_mode):
                continue
            if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
                out[os.path.join(os.path.dirname(name), b".wh." + n)] = {"type": "whiteout"}
                continue
            out[name] = entry(path, st)
            xattrs = {k: os.getxattr(path, k, follow_symlinks=False) for k in os.listxattr(path, follow_symlinks=False)}
            if stat.S_ISDIR(st.st_mode) and any(xattrs.get(p + "opaque") == b"y" for p in OVERLAY_XATTRS):
                out[os.path.join(name, b".wh..wh..opq")] = {"type": "whiteout"}
            kept = {k: capability_v2(v, 0) if k == "security.capability" else v for k, v in xattrs.items()
                    if not k.startswith(OVERLAY_XATTRS) and (k.startswith("user.") or k == "security.capability")}
            if kept:
                out[name]["xattrs"] = {k: v.hex() for k, v in kept.items()}
            if stat.S_ISREG(st.st_mode) and st.st_nlink > 1:
                inodes.setdefault(st.st_ino, []).append(name)
    for group in inodes.values():
        for name in group:
            out[name]["links"] = sorted(group)
    return out


def entry(path, st):
    e = {"type": "file" if stat.S_ISREG(st.st_mode) else stat.S_IFMT(st.st_mode), "uid": st.st_uid, "gid": st.st_gid,
         "mode": stat.S_IMODE(st.st_mode), "mtime": int(st.st_mtime // 1)}
    if stat.S_ISLNK(st.st_mode):
        e.update(link=os.readlink(path), mode=0o777)
    elif stat.S_ISREG(st.st_mode):
        with open(path, "rb") as f:
            e.update(size=st.st_size, sha256=hashlib.file_digest(f, "sha256").hexdigest())
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        e["dev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    return e


KINDS = {tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR,
         tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


def from_tar(path):
    """name -> what the tar says, in the same form."""
    out, groups = {}, {}
    with tarfile.open(path, errors="surrogateescape") as tar:
        for m in tar:
            name = os.fsencode(os.path.normpath(m.name))
            if name == b".":
                continue
            assert name not in out, "twice in the tar: %r" % name
            if os.path.basename(name).startswith(b".wh."):
                out[name] = {"type": "whiteout"}
                continue
            if m.islnk():
                target = os.fsencode(os.path.normpath(m.linkname))
                out[name] = out[target]
                groups.setdefault(id(out[target]), [target]).append(name)
                continue
            e = {"type": "file" if m.isreg() else KINDS[m.type], "uid": m.uid, "gid": m.gid, "mode": m.mode & 0o7777, "mtime": int(m.mtime // 1)}
            if m.issym():
                e.update(link=os.fsencode(m.linkname), mode=0o777)
            elif m.isreg():
                e.update(size=m.size, sha256=hashlib.file_digest(tar.extractfile(m), "sha256").hexdigest())
            elif m.ischr() or m.isblk():
                e["dev"] = (m.devmajor, m.devminor)
            xattrs = {k[len("SCHILY.xattr."):]: v.encode("utf8", "surrogateescape").hex() for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr.")}
            if xattrs:
                e["xattrs"] = xattrs
            out[name] = e
    for group in groups.values():
        out[group[0]]["links"] = sorted(group)
    return out


def layertree(image, store):
    if os.geteuid() != 0:
        with tempfile.TemporaryDirectory() as d:
            export(image, d)
            sys.exit(subprocess.run(IN_NAMESPACE + [sys.executable, "-B", __file__, "layertree", d, store]).returncode)
    manifest = json.load(open(image + "/manifest.json"))
    document = json.load(open(os.path.join(image, manifest["config"]["digest"].split(":")[1])))
    layers = json.load(open(store + "/overlay-layers/layers.json"))
    bad, parents = [], {""}
    for number, (blob, diff) in enumerate(zip(manifest["layers"], document["rootfs"]["diff_ids"])):
        # Steps with different keys can have made the same layer, so that several stand above the same parents.
        here = [x["id"] for x in layers if x.get("diff-digest") == diff and x.get("parent", "") in parents]
        if not here:
            sys.exit("layer %d (%s): not in the store above %s" % (number, diff, ", ".join(sorted(parents))))
        for layer in here:
            bad += compare(number, os.path.join(image, blob["digest"].split(":")[1]), diff, "%s/overlay/%s/diff" % (store, layer))
        parents = set(here)
    if bad:
        sys.exit("\n".join(bad[:20]))
    print("%d layers are as their trees" % len(manifest["layers"]))


def compare(number, blob, diff, directory):
    with tempfile.TemporaryDirectory() as d:
        plain = os.path.join(d, "layer.tar")
        magic = open(blob, "rb").read(4)
        tool = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}.get(magic[:2], "cat")
        with open(blob, "rb") as src, open(plain, "wb") as dst:
            subprocess.run([tool] + ([] if tool == "cat" else ["-dc"]), stdin=src, stdout=dst, check=True)
        with open(plain, "rb") as f:
            got = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
        if got != diff:
            return ["layer %d: the blob's content is %s, the configuration says %s" % (number, got, diff)]
        tar, tree = from_tar(plain), from_directory(directory)
    return ["layer %d: %r: tar %s, tree %s" % (number, n, tar.get(n), tree.get(n)) for n in sorted(set(tar) | set(tree)) if tar.get(n) != tree.get(n)]


if __name__ == "__main__":
    {"config": config, "files": files, "layertree": layertree}[sys.argv[1]](*sys.argv[2:])
