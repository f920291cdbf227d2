package copier

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nlp:x:4:7:lp:/var/spool/lpd:/bin/false\n" +
		"app:x:1500:1500::/home/app:/bin/sh\nbig:x:4294967296:1::/:/bin/sh\n"
	group = "root:x:0:\nlp:x:7:\nusers:x:100:app\nextra:x:1600:lp,app\napp:x:1500:app\n"
)

func userRoot(t *testing.T) *os.File {
	t.Helper()
	dir := build(t, t.TempDir(), "d etc 755")
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return openDir(t, dir)
}

func openDir(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestResolveOwner(t *testing.T) {
	root := userRoot(t)
	for _, tc := range []struct {
		spec string
		want Owner
		err  string
	}{
		{spec: "", want: Owner{}},
		{spec: "1000", want: Owner{1000, 1000}},
		{spec: "1000:2000", want: Owner{1000, 2000}},
		{spec: "lp", want: Owner{4, 7}},
		{spec: "lp:users", want: Owner{4, 100}},
		{spec: "lp:9", want: Owner{4, 9}},
		{spec: "4:extra", want: Owner{4, 1600}},
		{spec: "nosuchuser", err: "nosuchuser"},
		{spec: "lp:nosuchgroup", err: "nosuchgroup"},
		{spec: ":7", err: "no name"},
		{spec: "7:", err: "no name"},
		{spec: "4294967295", err: "4294967295"},
		{spec: "99999999999999999999", err: "99999999999999999999"},
		{spec: "-1", err: "-1"},
		{spec: "big", err: "big"},
	} {
		t.Run(tc.spec, func(t *testing.T) {
			got, err := ResolveOwner(fdfs.OnDisk(root), tc.spec)
			checkResult(t, tc.want, got, tc.err, err)
		})
	}
}

func TestResolveUser(t *testing.T) {
	root := userRoot(t)
	for _, tc := range []struct {
		spec string
		want User
		err  string
	}{
		{spec: "", want: User{Home: "/root"}},
		{spec: "app", want: User{1500, 1500, []uint32{100, 1600}, "/home/app"}},
		{spec: "1500", want: User{1500, 1500, []uint32{100, 1600}, "/home/app"}},
		{spec: "app:extra", want: User{1500, 1600, nil, "/home/app"}},
		{spec: "app:7", want: User{1500, 7, nil, "/home/app"}},
		{spec: "lp", want: User{4, 7, []uint32{1600}, "/var/spool/lpd"}},
		{spec: "4242", want: User{4242, 0, nil, "/"}},
		{spec: "4242:users", want: User{4242, 100, nil, "/"}},
		{spec: "nosuchuser", err: "nosuchuser"},
		{spec: "app:nosuchgroup", err: "nosuchgroup"},
		{spec: "4294967296", err: "4294967296"},
		{spec: "big", err: "big"},
	} {
		t.Run(tc.spec, func(t *testing.T) {
			got, err := ResolveUser(fdfs.OnDisk(root), tc.spec)
			checkResult(t, tc.want, got, tc.err, err)
		})
	}
}

func checkResult[T any](t *testing.T, want, got T, wantErr string, err error) {
	t.Helper()
	if wantErr != "" {
		if err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Fatalf("%v, error %v, want one that names %s", got, err, wantErr)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What an image may put in the place of its passwd file (CVE-2024-9676 of containers/storage).
func TestHostilePasswd(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "canary"), []byte("canary:x:4:4::/:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40)
	for _, tc := range []struct {
		name  string
		files []string
		err   string
	}{
		{"fifo", []string{"p etc/passwd 644"}, "fifo"},
		{"directory", []string{"d etc/passwd 755"}, "directory"},
		{"device", []string{"l etc/passwd " + up + "dev/zero"}, "canary"},
		{"absolute link", []string{"l etc/passwd " + outside + "/canary"}, "canary"},
		{"relative link", []string{"l etc/passwd " + up + outside[1:] + "/canary"}, "canary"},
		{"link for the directory", []string{"f x 644 x", "l etc " + outside, "l passwd canary"}, "canary"},
		{"descriptor", []string{"l etc/passwd /proc/self/cwd/" + up + outside + "/canary"}, "canary"},
		{"loop", []string{"l etc/passwd passwd"}, "levels"},
		{"not a directory", []string{"f etc 644 x"}, "canary"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := openDir(t, build(t, t.TempDir(), tc.files...))
			o, err := ResolveOwner(fdfs.OnDisk(root), "canary")
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("ResolveOwner: %v, %v, want an error that says %s", o, err, tc.err)
			}
			if u, err := ResolveUser(fdfs.OnDisk(root), "canary"); err == nil {
				t.Errorf("ResolveUser: %v", u)
			}
		})
	}

	t.Run("larger than the bound", func(t *testing.T) {
		dir := build(t, t.TempDir(), "f etc/passwd 644 x")
		if err := os.Truncate(filepath.Join(dir, "etc/passwd"), 1<<40); err != nil {
			t.Fatal(err)
		}
		if _, err := ResolveOwner(fdfs.OnDisk(openDir(t, dir)), "canary"); err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes") {
			t.Errorf("error %v", err)
		}
	})
}
