#!/usr/bin/env python3
"""Print the OCI config of a pod's container as kubelet and containerd make it from a manifest of deploy/kubernetes.

  config.py --manifest FILE --image CONFIG.json --seccomp default.json --rootfs DIR [--volume NAME=DIR]... [--file PATH=FILE]...
            [--env K=V]... COMMAND...

CONFIG.json is the image's config; default.json is the unresolved profile of github.com/moby/profiles/seccomp, which
containerd's RuntimeDefault is made from. A field of the manifest that this does not know is an error, so that none goes
untested. Sources: containerd's pkg/oci/spec.go and mounts.go, internal/cri/server/container_create_linux.go; kubelet's
kuberuntime/security_context.go.
"""
import argparse, json, platform

import yaml

CAPS = """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE""".split()
MASKED = """/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi
/proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware""".split()
READONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
USERNS = {"containerID": 0, "hostID": 655360, "size": 65536}


def only(what, values, names):
    unknown = set(values) - set(names.split())
    if unknown:
        raise SystemExit("%s: not known to this script: %s" % (what, " ".join(sorted(unknown))))
    return values


def mounts():
    options = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": options},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options + ["mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": options},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options + ["ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options + ["relatime", "ro"]},
    ]


def applies(rule, caps, arch):
    """Whether a rule of the unresolved profile is for these capabilities and this machine (all kernels here are new)."""
    inc, exc = rule.get("includes") or {}, rule.get("excludes") or {}
    if set(exc.get("caps") or []) & caps or arch in (exc.get("arches") or []) or exc.get("minKernel"):
        return False
    return set(inc.get("caps") or []) <= caps and (not inc.get("arches") or arch in inc["arches"])


def runtime_default(path, caps):
    profile = json.load(open(path))
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    main = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[arch]
    archs = [[a["architecture"]] + (a.get("subArchitectures") or []) for a in profile["archMap"] if a["architecture"] == main][0]
    rules = [{k: r[k] for k in ("names", "action", "args", "errnoRet") if r.get(k) is not None}
             for r in profile["syscalls"] if applies(r, caps, arch)]
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": archs, "syscalls": rules}


def capabilities(wanted):
    only("capabilities", wanted, "add drop")
    caps = [] if "ALL" in wanted.get("drop", []) else [c for c in CAPS if c not in wanted.get("drop", [])]
    return ["CAP_" + c for c in caps + [c for c in wanted.get("add", []) if c not in caps]]


def volumes(pod, container, dirs):
    kinds = {v["name"]: only("volume", v, "name emptyDir secret") for v in pod["volumes"]}
    for m in container["volumeMounts"]:
        only("volumeMount", m, "name mountPath readOnly")
        kinds[m["name"]]  # a mount without its volume is a mistake of the manifest
        mode = "ro" if m.get("readOnly") else "rw"
        yield {"destination": m["mountPath"], "type": "bind", "source": dirs[m["name"]], "options": ["rbind", "rprivate", mode]}


def process(context, caps, image, container, a):
    uid = context.get("runAsUser")
    if uid is None:
        uid = int(image.get("User", "0").partition(":")[0])
    if context.get("runAsNonRoot") and uid == 0:
        raise SystemExit("runAsNonRoot: the container would be root's")
    env = list(image.get("Env", [])) + ["HOSTNAME=rbuild", "KUBERNETES_SERVICE_HOST=10.96.0.1", "HOME=" + ("/root" if uid == 0 else "/home/builder")]
    env += ["%s=%s" % (e["name"], e["value"]) for e in container.get("env", [])] + a.env
    gid = context.get("runAsGroup", uid)  # containerd asks the image's /etc/passwd, where both numbers are the same
    return {"terminal": False, "user": {"uid": uid, "gid": gid, "additionalGids": [gid]}, "args": a.command, "env": env,
            "cwd": image.get("WorkingDir") or "/", "noNewPrivileges": context.get("allowPrivilegeEscalation") is False,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--manifest", "--image", "--seccomp", "--rootfs"):
        ap.add_argument(name, required=True)
    for name in ("--volume", "--file", "--env"):
        ap.add_argument(name, action="append", default=[])
    ap.add_argument("command", nargs="+")
    a = ap.parse_args()
    job = yaml.safe_load(open(a.manifest))
    pod = only("pod", job["spec"]["template"]["spec"], "restartPolicy automountServiceAccountToken hostUsers containers volumes")
    container = only("container", pod["containers"][0], "name image args env securityContext resources volumeMounts")
    context = only("securityContext", container["securityContext"], "runAsUser runAsGroup runAsNonRoot allowPrivilegeEscalation capabilities"
                   " procMount seccompProfile appArmorProfile")
    image = json.load(open(a.image)).get("config", {})
    caps = capabilities(context.get("capabilities", {}))
    unmasked = context.get("procMount") == "Unmasked"
    binds = [{"destination": p, "type": "bind", "source": f, "options": ["rbind", "rprivate", "ro"]}
             for p, f in (x.split("=", 1) for x in a.file)]
    linux = {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")],
             "cgroupsPath": "/rbuild-pod", "maskedPaths": [] if unmasked else MASKED, "readonlyPaths": [] if unmasked else READONLY}
    if context["seccompProfile"]["type"] == "RuntimeDefault":
        linux["seccomp"] = runtime_default(a.seccomp, set(caps))
    if pod.get("hostUsers") is False:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [USERNS]
    elif unmasked:
        raise SystemExit("`hostUsers` must be false to use `Unmasked`")
    print(json.dumps({
        "ociVersion": "1.0.2", "root": {"path": a.rootfs}, "hostname": "rbuild", "linux": linux,
        "process": process(context, caps, image, container, a),
        "mounts": mounts() + list(volumes(pod, container, dict(v.split("=", 1) for v in a.volume))) + binds,
    }, indent=1))


main()
