package commit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const netRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var (
	longDir  = strings.Repeat("d", 200)
	longFile = strings.Repeat("f", 255)
)

// everything fills root with each kind of file that a step can create.
func everything(t *testing.T, root string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(root, name) }
	ok(t,
		os.Mkdir(in("a"), 0o750), os.WriteFile(in("a/file"), []byte("hello"), 0o644), os.Link(in("a/file"), in("a/hard")),
		os.Chown(in("a/file"), 65534, 65534), os.Chmod(in("a/file"), 0o755|os.ModeSetuid), os.Symlink("file", in("a/link")),
		os.Lchown(in("a/link"), 1, 2), os.Link(in("a/link"), in("a/link2")), os.Chown(in("a"), 1000, 65534),
		os.WriteFile(in("block"), bytes.Repeat([]byte("b"), blockSize), 0o600), os.WriteFile(in("cap"), []byte("c"), 0o755),
		unix.Setxattr(in("cap"), "security.capability", []byte(netRaw), 0),
		os.WriteFile(in("empty"), nil, 0), unix.Mkfifo(in("fifo"), 0o640), unix.Mknod(in("sock"), unix.S_IFSOCK|0o600, 0),
		os.MkdirAll(in(longDir+"/"+longDir), 0o700), os.WriteFile(in(longDir+"/"+longDir+"/"+longFile), []byte("long"), 0o600),
		os.Symlink(strings.Repeat("t", 300), in("longlink")), os.WriteFile(in("new\nline\\ \t"), nil, 0o600),
		os.Mkdir(in("setgid"), 0o755), os.Chmod(in("setgid"), 0o755|os.ModeSetgid), os.Mkdir(in("tmp"), 0o755),
		os.Chmod(in("tmp"), 0o777|os.ModeSticky), os.WriteFile(in("utf8-é"), nil, 0o600), os.WriteFile(in("raw-\xff\xfe"), []byte("raw"), 0o600),
		os.WriteFile(in("xattr"), nil, 0o600), unix.Setxattr(in("xattr"), "user.b", []byte("\x00\n=\xff"), 0),
		unix.Setxattr(in("xattr"), "user.a", nil, 0), unix.Setxattr(in("xattr"), "user.overlay.origin", []byte("o"), 0),
		unix.Setxattr(in("tmp"), "user.dir", []byte("d"), 0),
	)

	at := func(name string, sec int64) {
		times := []unix.Timespec{{Sec: 1}, {Sec: sec, Nsec: 987654321}}
		ok(t, unix.UtimesNanoAt(unix.AT_FDCWD, in(name), times, unix.AT_SYMLINK_NOFOLLOW))
	}

	for _, name := range []string{
		"a/file", "a/link", "a", "block", "cap", "fifo", longDir + "/" + longDir + "/" + longFile,
		longDir + "/" + longDir, longDir, "longlink", "new\nline\\ \t", "setgid", "tmp", "utf8-é", "xattr",
	} {
		at(name, 1_700_000_000)
	}

	at("empty", -86400)                // 1969
	at("raw-\xff\xfe", 10_000_000_000) // 2286
}

// entry describes a file of a tar as an independent reader sees it.
type entry struct {
	Name, Type, Link string
	Mode, UID, GID   int
	Size, MTime      int64
	Sum              string            // SHA-256 of the content of a regular file
	Xattrs           map[string]string // hexadecimal values
}

// python is a program that lists a tar with the Python module tarfile, with names and values as
// bytes. The program shares no code with this package.
const python = `
import sys, tarfile, json, hashlib, io
b = lambda s: s.encode('utf-8', 'surrogateescape')
text = lambda s: b(s).decode('latin-1')
for m in (t := tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()), mode='r:', encoding='utf-8')):
    print(json.dumps(dict(
        Name=text(m.name), Type=m.type.decode(), Link=text(m.linkname), Mode=m.mode, UID=m.uid, GID=m.gid, Size=m.size,
        MTime=int(m.mtime), Sum=hashlib.sha256(t.extractfile(m).read()).hexdigest() if m.isreg() else '',
        Xattrs={k[len('SCHILY.xattr.'):]: b(v).hex() for k, v in m.pax_headers.items() if k.startswith('SCHILY.xattr.')} or None)))
`

func listed(t *testing.T, data []byte) []entry {
	t.Helper()
	program := "/usr/bin/python3"
	if _, err := os.Stat(program); err != nil {
		t.Skip("the independent reader is missing: ", err)
	}
	cmd := exec.Command(program, "-c", python)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	out, err := cmd.Output()
	ok(t, err)
	var all []entry
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var e entry
		ok(t, dec.Decode(&e))
		e.Name, e.Link = latin1(e.Name), latin1(e.Link)
		all = append(all, e)
	}

	return all
}

func latin1(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}
