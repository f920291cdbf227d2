"""Runs a program as in a pod of the security standard "restricted": restricted.py PROGRAM [ARGUMENT...]

no_new_privs is set, and a filter refuses what containerd's RuntimeDefault profile refuses there, as it does: namespaces
and mounts by EPERM, clone3 by ENOSYS. An ordinary user can do none of the rest anyway: chroot, chown to others, mknod.
"""

import ctypes
import os
import platform
import struct
import sys

EPERM, ENOSYS = 1, 38
NEW_NAMESPACES = 0x7E020000  # CLONE_NEW* of clone(2)
# unshare, clone, mount, umount2, pivot_root, setns; the others have the same number everywhere.
NUMBERS = {"x86_64": (272, 56, 165, 166, 155, 308), "aarch64": (97, 220, 40, 39, 41, 268)}
MOUNT_CALLS = range(428, 434)  # open_tree to fspick
CLONE3 = 435

LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def op(code, k, true=0, false=0):
    return struct.pack("HBBI", code, true, false, k)


def program():
    unshare, clone, *others = NUMBERS[platform.machine()]
    out = [op(LOAD, 0)]  # the system call's number
    for number in [unshare, *others, *MOUNT_CALLS]:
        out += [op(JUMP_EQUAL, number, 0, 1), op(RETURN, ERRNO | EPERM)]
    out += [op(JUMP_EQUAL, CLONE3, 0, 1), op(RETURN, ERRNO | ENOSYS)]
    out += [op(JUMP_EQUAL, clone, 0, 3), op(LOAD, 16), op(JUMP_SET, NEW_NAMESPACES, 0, 1), op(RETURN, ERRNO | EPERM)]
    return out + [op(RETURN, ALLOW)]


def main():
    code = program()
    text = ctypes.create_string_buffer(b"".join(code))
    fprog = ctypes.create_string_buffer(struct.pack("H6xQ", len(code), ctypes.addressof(text)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in [(38, 1, 0, 0, 0), (22, 2, ctypes.addressof(fprog), 0, 0)]:  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if libc.prctl(*map(ctypes.c_ulong, arguments)) != 0:
            sys.exit("restricted.py: prctl: " + os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[1], sys.argv[1:])


main()
