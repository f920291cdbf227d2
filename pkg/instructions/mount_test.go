package instructions

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mounts parses a RUN with the flags, expands them with $V = v, and reads the mounts.
func mounts(flags string) ([]Mount, error) {
	f, err := Parse("F", []byte("FROM a\nRUN "+flags+" x"))
	if err != nil {
		return nil, err
	}

	x := Expander{Escape: '\\', Lookup: func(name string) (string, bool) {
		if name == "U" {
			return "", false
		}
		return strings.ToLower(name), true
	}}

	c, err := x.Command(f.Stages[0].Instructions[0].Command)
	if err != nil {
		return nil, err
	}

	var out []Mount
	run, _ := c.(Run)
	for _, flag := range run.Mounts {
		m, err := flag.Mount()
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}

	return out, nil
}

func TestMounts(t *testing.T) {
	for _, tc := range []struct {
		name, flags string
		want        []Mount
	}{
		{"bind is the default", "--mount=target=/a", []Mount{{Type: "bind", Target: "/a", ReadOnly: true}}},
		{"no target", "--mount=from=x", []Mount{{Type: "bind", From: "x", ReadOnly: true}}},
		{"aliases", "--mount=src=a,dst=/b --mount=source=a,destination=b", []Mount{
			{Type: "bind", Source: "a", Target: "/b", ReadOnly: true}, {Type: "bind", Source: "a", Target: "b", ReadOnly: true},
		}},
		{"keys and types have no case", "--mount=Type=BIND,TARGET=/A,RW", []Mount{{Type: "bind", Target: "/A"}}},
		{"rw", "--mount=target=/a,rw=true --mount=target=/b,readwrite --mount=target=/c,rw=false --mount=target=/d,ro=0", []Mount{
			{Type: "bind", Target: "/a"}, {Type: "bind", Target: "/b"}, {Type: "bind", Target: "/c", ReadOnly: true}, {Type: "bind", Target: "/d"},
		}},
		{"the last counts", "--mount=target=/a,target=/b,ro,rw", []Mount{{Type: "bind", Target: "/b"}}},
		{"quotes of CSV", `--mount='"target=/a,b",ro'`, []Mount{{Type: "bind", Target: "/a,b", ReadOnly: true}}},
		{"variables", `--mount=type=$CACHE,target=/$V,id="$V-$X",sharing=$LOCKED`, []Mount{
			{Type: "cache", Target: "/v", ID: "v-x", Sharing: "locked"},
		}},
		{"unset variable", `--mount=target=/a$U`, []Mount{{Type: "bind", Target: "/a", ReadOnly: true}}},
		{"cache", "--mount=type=cache,target=/a/../b/", []Mount{{Type: "cache", Target: "/a/../b/", ID: "/b", Sharing: "shared"}}},
		{"cache, all", "--mount=type=cache,id=i,target=/c,sharing=PRIVATE,from=b,source=/s,mode=0770,uid=1,gid=2,ro", []Mount{{
			Type: "cache", ID: "i", Target: "/c", Sharing: "private", From: "b", Source: "/s", Mode: new(uint32(0o770)),
			UID: new(uint32(1)), GID: new(uint32(2)), ReadOnly: true,
		}}},
		{"tmpfs", "--mount=target=/t,type=tmpfs,size=1k --mount=type=tmpfs,dst=/u,tmpfs-size=2M,tmpfs-mode=700", []Mount{
			{Type: "tmpfs", Target: "/t", Size: 1024}, {Type: "tmpfs", Target: "/u", Size: 2 << 20, Mode: new(uint32(0o700))},
		}},
		{"secret", "--mount=type=secret,id=s --mount=type=secret,target=/a/s2 --mount=type=secret,src=s3,env=E,required", []Mount{
			{Type: "secret", ID: "s"},
			{Type: "secret", ID: "s2", Target: "/a/s2"},
			{Type: "secret", ID: "s3", Env: new("E"), Required: true},
		}},
		{"ssh", "--mount=type=ssh --mount=type=ssh,id=a,target=/s,mode=0666,uid=1,gid=1,required=true", []Mount{
			{Type: "ssh", ID: "default"},
			{Type: "ssh", ID: "a", Target: "/s", Mode: new(uint32(0o666)), UID: new(uint32(1)), GID: new(uint32(1)), Required: true},
		}},
		{"attributes", "--mount=target=/a,nosuid,noexec=1,nodev=false,rprivate,Z,relabel=shared,consistency=cached,bind-propagation=private", []Mount{
			{Type: "bind", Target: "/a", ReadOnly: true, Attributes: []string{"nosuid", "noexec"}},
		}},
		{"exec undoes noexec", "--mount=type=tmpfs,target=/a,noexec,exec", []Mount{{Type: "tmpfs", Target: "/a", Attributes: []string{}}}},
		{"idle", "--mount=type=tmpfs,target=/t,from=x,id=y", []Mount{{Type: "tmpfs", Target: "/t", Idle: []string{"from", "id"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := mounts(tc.flags)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i].ReadOnly = got[i].ReadOnly && (got[i].Type == "bind" || got[i].Type == "cache")
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMountErrors(t *testing.T) {
	for _, tc := range []struct{ flag, want string }{
		{"type=bnd,target=/a", `--mount: unknown type "bnd" (did you mean bind?)`},
		{"type=,target=/a", `--mount: unknown type ""`},
		{"targt=/a", `--mount: unknown option "targt" (did you mean target?)`},
		{"/a", `--mount: unknown option "/a" (did you mean id?)`},
		{",", `--mount: an empty option`},
		{"target", "--mount: option target needs a value"},
		{"target=/a,rw=maybe", "--mount: rw=maybe: neither true nor false"},
		{"target=/a,relabel", "--mount: option relabel needs a value"},
		{"target=/a,relabel=all", "--mount: relabel=all: neither shared nor private"},
		{"target=/a,z=0", "--mount: z=0: want it alone"},
		{"target=/a,nosuid=x", "--mount: nosuid=x: neither true nor false"},
		{"target=/a,dev", "--mount: option dev is refused: no mount of RUN has devices; give one with --device"},
		{"target=/a,U=true", "--mount: option u is refused: " + noChown},
		{"target=/a,bind-propagation=rshared", "--mount: bind-propagation=rshared: " + noPropagation},
		{"target=/a,rshared", "--mount: option rshared is refused: " + noPropagation},
		{"target=/a,suid", "--mount: option suid is refused: " + noAttributes},
		{"from=$X,target=/a", "RUN: 'from' doesn't support variable expansion, define alias stage instead"},
		{"from=x$,target=/a", "--mount: from=x$: variables are not expanded in from (give the image a name with FROM ... AS, where variables work)"},
		{"target=/a,mode=0755", "--mount: a mount of type bind has no option mode"},
		{"target=/a,uid=1", "--mount: a mount of type bind has no option uid"},
		{"target=/a,sharing=locked", "--mount: a mount of type bind has no option sharing"},
		{"target=/a,required", "--mount: a mount of type bind has no option required"},
		{"target=/a,size=1", "--mount: a mount of type bind has no option size"},
		{"type=cache,target=/a,sharing=lokced", "--mount: sharing=lokced: neither shared nor private nor locked (did you mean locked?)"},
		{"type=cache,target=/a,source=/b", "--mount: source=/b of a cache is a path in from=, which is not given"},
		{"type=cache,target=/a,mode=99", "--mount: mode=99: not an octal mode up to 7777"},
		{"type=cache,target=/a,mode=10000", "--mount: mode=10000: not an octal mode up to 7777"},
		{"type=cache,target=/a,uid=root", "--mount: uid=root: not a number of a user"},
		{"type=cache,target=/a,gid=4294967295", "--mount: gid=4294967295: not a number of a group"},
		{"type=tmpfs,target=/a,size=much", "--mount: size=much: invalid size: 'much'"},
		{"type=tmpfs,target=/a,mode=0700", "--mount: a mount of type tmpfs has no option mode"},
		{"type=secret", "--mount: a secret needs an id or a target"},
		{"type=secret,id=a,src=b", "--mount: id and source of a secret are the same: give one of them"},
		{"type=secret,id=a,from=b", "--mount: a mount of type secret has no option from"},
		{"type=secret,id=a,env=", "--mount: env= is no name of a variable"},
		{"type=ssh,source=/a", "--mount: a mount of type ssh has no option source"},
		{`'"target=/a'`, `RUN: failed to parse csv mounts: parse error on line 1, column 2: extraneous or missing " in quoted-field`},
		{"type=$bnd,target=/a", `--mount: unknown type "bnd" (did you mean bind?)`},
	} {
		t.Run(tc.flag, func(t *testing.T) {
			_, err := mounts("--mount=" + tc.flag)
			if err == nil {
				t.Fatal("no error")
			}

			// As the plan does where the variables are known.
			got := strings.TrimPrefix((&File{Name: "F"}).At(Range{Line: 2}, err).Error(), "F:2: ")
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestMountWarning(t *testing.T) {
	f, err := Parse("F", []byte("FROM a\nRUN --mount=type=ssh,from=b x"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Warning{{Range{2, 2}, "a mount of type ssh ignores from"}}
	if d := cmp.Diff(want, f.Warnings); d != "" {
		t.Error(d)
	}
}
