package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
)

// mountsOf gives the mounts of the target's last RUN as "type target [from]".
func mountsOf(t *testing.T, w walked) (out []string) {
	t.Helper()
	for _, steps := range w.steps {
		for _, s := range steps {
			run, ok := s.Op.(*plan.Run)
			if !ok {
				continue
			}
			for _, m := range run.Mounts {
				text := m.Type + " " + m.Target
				if m.Files != nil && m.Files.Stage != nil {
					text += " stage " + m.Files.Stage.Name
				} else if m.Files != nil {
					text += " image " + m.Files.Image
				}
				out = append(out, text)
			}
		}
	}

	return out
}

func TestMounts(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
	}{
		{"relative to WORKDIR", "WORKDIR /w\nRUN --mount=target=a/b x", []string{"bind /w/a/b"}},
		{"no target is WORKDIR", "WORKDIR /w\nRUN --mount=from=alpine x", []string{"bind /w image alpine"}},
		{"out of the root", "RUN --mount=target=/../../etc/x/.. x", []string{"bind /etc"}},
		{"variable", "ARG A=/q\nRUN --mount=target=$A/r x", []string{"bind /q/r"}},
		{"outer first", "RUN --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/a-b --mount=target=/a x", []string{"bind /a", "tmpfs /a/b", "tmpfs /a-b"}},
		{"the latter hides the former", "RUN --mount=target=/a --mount=type=tmpfs,target=/a/ x", []string{"tmpfs /a"}},
		{"secrets", "WORKDIR /w\nRUN --mount=type=secret,id=a/../b --mount=type=secret,id=c,target=d --mount=type=secret,id=e,env=E x", []string{
			"secret ", "secret /run/secrets/b", "secret /w/d",
		}},
		{"a hidden secret keeps its variable", "RUN --mount=type=secret,id=a,env=E,target=/a --mount=target=/a x", []string{"secret ", "bind /a"}},
		{"relative", "WORKDIR /w/x\nRUN --mount=type=ssh,target=s --mount=type=secret,id=a,target=../a --mount=type=cache,target=c --mount=type=tmpfs,target=./t --mount=target=b x", []string{
			"secret /w/a", "bind /w/x/b", "cache /w/x/c", "ssh /w/x/s", "tmpfs /w/x/t",
		}},
		{"relative without WORKDIR", "RUN --mount=type=secret,id=a,target=a x", []string{"secret /a"}},
		{"ssh", "RUN --mount=type=ssh --mount=type=ssh,id=b x", []string{"ssh /run/rbuild/ssh_agent.0", "ssh /run/rbuild/ssh_agent.1"}},
		{"trigger", "ONBUILD RUN --mount=type=tmpfs,target=/t x\nFROM s", []string{"tmpfs /t"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := walk(t, "FROM a AS s\n"+tc.text, "", nil)
			if d := cmp.Diff(tc.want, mountsOf(t, w)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestMountNeeds(t *testing.T) {
	w := walk(t, "FROM a AS x\nFROM a AS unused\nFROM a AS y\nFROM b\nRUN --mount=from=X,target=/x --mount=type=cache,from=2,target=/c --mount=from=img,target=/i r\n", "", nil)
	if got := names(w.plan); got != "0x 2y 3" {
		t.Errorf("stages %s", got)
	}
	want := []plan.Source{{Stage: w.plan.Stages[0]}, {Stage: w.plan.Stages[1]}, {Image: "img"}}
	if !slices.Equal(w.plan.Target.Needs, want) {
		t.Errorf("needs %v", w.plan.Target.Needs)
	}
}

func TestMountPlanErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"RUN --mount=type=tmpfs x", "F:2: --mount: the target is the root directory: give one below it with target="},
		{"RUN --mount=target=/a/.. x", "F:2: --mount: the target is the root directory: give one below it with target="},
		{"RUN --mount=target=/a,from=9 x", "F:2: --mount: from=9: the file has 2 stages, the first is 0"},
		{"RUN --mount=target=/a,from=later x", "F:2: --mount: from=later: the stage (line 3) is defined after this one"},
		{"ARG T=bnd\nRUN --mount=type=$T,target=/a x", `F:3: --mount: unknown type "bnd" (did you mean bind?)`},
		{"RUN --mount=type=cache,target=/a,uid=${X?none} x", `F:2: expanding "${X?none}": X: none`},
	} {
		_, err := try("FROM a\n"+tc.text+"\nFROM b AS later\nCOPY --from=0 a b", "", nil)
		if got := strings.Replace(fmt.Sprint(err), "Dockerfile:", "F:", 1); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
	}
}

// TestMountCanon: every option of a mount changes the canonical text.
func TestMountCanon(t *testing.T) {
	seen := map[string]string{}
	for _, flags := range []string{
		"", "target=/a", "target=/b", "target=/a,rw", "target=/a,source=b", "target=/a,from=i", "type=cache,target=/a", "type=cache,target=/a,ro",
		"type=cache,target=/a,id=b", "type=cache,target=/a,sharing=locked", "type=cache,target=/a,mode=0700", "type=cache,target=/a,uid=1",
		"type=cache,target=/a,gid=1", "type=tmpfs,target=/a", "type=tmpfs,target=/a,size=1", "type=tmpfs,target=/a,noexec",
		"target=/a,noexec", "target=/a,nosuid", "target=/a,nosuid,noexec", "type=cache,target=/a,nodev", "type=secret,id=a", "type=secret,id=b",
		"type=secret,id=a,env=A", "type=secret,id=a,env=B", "type=secret,id=a,required", "type=ssh", "type=ssh,id=a",
	} {
		text := "RUN x"
		if flags != "" {
			text = "RUN --mount=" + flags + " x"
		}
		w := walk(t, "FROM a AS s\n"+text, "", nil)
		c := w.steps["s"][0].Canon
		if other, ok := seen[c]; ok {
			t.Errorf("%q and %q have one key", flags, other)
		}
		seen[c] = flags
		if h := w.steps["s"][0].CreatedBy; h != "RUN /bin/sh -c x" {
			t.Errorf("history %q", h)
		}
	}
}
