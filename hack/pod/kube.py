#!/usr/bin/env python3
"""Print the Pod of a Job of deploy/kubernetes for podman kube play, which knows no Job.

  kube.py MANIFEST --image NAME --auth DIR --contexts DIR ARG...

Image and arguments take the place of the manifest's, and DIR that of the secret: podman 4.3 crashes on a secret without
"optional", and mounts it as the base64 that it is written in. The contexts are mounted at /pod.
"""
import argparse

import yaml

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("manifest")
for name in ("--image", "--auth", "--contexts"):
    ap.add_argument(name, required=True)
ap.add_argument("arg", nargs="+")
a = ap.parse_args()
spec = yaml.safe_load(open(a.manifest))["spec"]["template"]["spec"]
container = spec["containers"][0]
container.update(image=a.image, imagePullPolicy="Never", args=a.arg)
container["volumeMounts"].append({"name": "contexts", "mountPath": "/pod", "readOnly": True})
spec["volumes"] = [{"name": v["name"], "hostPath": {"path": a.auth}} if "secret" in v else v for v in spec["volumes"]]
spec["volumes"].append({"name": "contexts", "hostPath": {"path": a.contexts}})
print(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "rbuild"}, "spec": spec}))
