#!/usr/bin/env python3
"""Push an image made of finished layers to a plain-HTTP registry, for tests: no engine takes part.

  pushimage.py --registry HOST:PORT [--env K=V]... [--cmd ARG]... NAME:TAG LAYER.tar.gz...
"""
import argparse, gzip, hashlib, json, os, sys, urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "conformance"))
from mkbases import Registry

KIND = "application/vnd.oci.image."
CREATED = "2023-11-14T22:13:20Z"


def diff_id(path):
    h = hashlib.sha256()
    with gzip.open(path) as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return "sha256:" + h.hexdigest()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--registry", required=True, metavar="HOST:PORT")
    ap.add_argument("--env", action="append", default=[], metavar="K=V")
    ap.add_argument("--cmd", action="append", default=[], metavar="ARG")
    ap.add_argument("name")
    ap.add_argument("layers", nargs="+")
    a = ap.parse_args()
    urllib.request.install_opener(urllib.request.build_opener(urllib.request.ProxyHandler({})))
    registry = Registry(a.registry)
    repo, _, tag = a.name.partition(":")
    document = {"architecture": "amd64", "os": "linux", "created": CREATED, "config": {"Env": a.env, "Cmd": a.cmd},
                "rootfs": {"type": "layers", "diff_ids": [diff_id(p) for p in a.layers]},
                "history": [{"created": CREATED, "created_by": os.path.basename(p)} for p in a.layers]}
    layers = [registry.push_blob(repo, open(p, "rb").read(), KIND + "layer.v1.tar+gzip") for p in a.layers]
    manifest = {"schemaVersion": 2, "mediaType": KIND + "manifest.v1+json", "layers": layers,
                "config": registry.push_blob(repo, json.dumps(document).encode(), KIND + "config.v1+json")}
    registry.request("PUT", "%s/manifests/%s" % (repo, tag), json.dumps(manifest).encode(), {"Content-Type": manifest["mediaType"]})
    print("pushed", a.name)


if __name__ == "__main__":
    main()
