package outline

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

func outlineOf(t *testing.T, text, target string, args map[string]string) Outline {
	t.Helper()
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o := plan.Options{Target: target, BuildArgs: args, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	p, err := plan.New(f, o)
	if err != nil {
		t.Fatal(err)
	}
	out, err := New(f, p, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func at(r instructions.Range) Location { return At(&instructions.File{}, r) }

func arg(line int, name, value, description string) Arg {
	return Arg{Name: name, Value: value, Description: description, Location: at(instructions.Range{Line: line})}
}

func TestArgs(t *testing.T) {
	const text = `
ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx="usy${inherited}"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
`

	got := outlineOf(t, text, "target", map[string]string{"BAR": "678"})
	want := Outline{Name: "target", Description: "defines build target", Args: []Arg{
		arg(2, "inherited", "box", ""),
		arg(6, "sfx", "usybox", "is a suffix"),
		arg(10, "FOO", "123", ""),
		arg(12, "BAR", "678", "is a number"),
		arg(20, "ABC", "a", ""),
		arg(22, "password", "", ""),
		arg(25, "alternate_password", "", "will show up in the outline"),
	}}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestRecursiveArgs(t *testing.T) {
	const text = `
ARG FOO=123
ARG ABC=abc
ARG DEF=def
ARG FOO=${FOO}${ABC}
ARG BAR=${FOO}456
ARG FOO=${FOO}456${BAR}
FROM scratch AS first
ARG BAR
FROM scratch
ARG FOO
`

	got := outlineOf(t, text, "", nil)
	want := []Arg{arg(3, "ABC", "abc", ""), arg(6, "BAR", "123abc456", ""), arg(7, "FOO", "123abc456123abc456", "")}
	if d := cmp.Diff(want, got.Args); d != "" {
		t.Error(d)
	}
}

func TestMounts(t *testing.T) {
	const text = `
FROM busybox AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} --mount=type=cache,target=/var/cache true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required --mount=type=cache,id=go,target=/g --mount=type=cache,id=go,target=/h true

FROM second
`

	got := outlineOf(t, text, "target", map[string]string{"BAR": "678"})
	line := func(n int) Location { return at(instructions.Range{Line: n}) }
	want := Outline{
		Name: "target", Args: []Arg{arg(9, "BAR", "678", "")},
		Secrets: []Mount{{"passwd", true, line(3)}, {"second678", false, line(10)}},
		SSH:     []Mount{{"default", false, line(3)}, {"ssh3", true, line(14)}},
		Cache:   []Cache{{"/var/cache", line(10)}, {"go", line(14)}},
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var b strings.Builder
	if err := got.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	table := `TARGET: target

BUILD ARG   VALUE   DESCRIPTION
BAR         678     

SECRET      REQUIRED
passwd      true
second678   

SSH       REQUIRED
default   
ssh3      true

CACHE
/var/cache
go

`

	if d := cmp.Diff(table, b.String()); d != "" {
		t.Error(d)
	}
}

// TestUnset: an argument without a value is shown where FROM uses it; a stage without instructions
// can be built on.
func TestUnset(t *testing.T) {
	const text = "ARG TAG\nARG B=$A\nARG A=1\nFROM x:1${TAG}$B AS a\nFROM a\nRUN --mount=type=ssh true\nRUN --mount=type=ssh,required true"
	got := outlineOf(t, text, "", nil)
	want := Outline{
		Args: []Arg{arg(1, "TAG", "", ""), arg(2, "B", "", "")},
		SSH:  []Mount{{"default", true, at(instructions.Range{Line: 6})}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestTargets(t *testing.T) {
	f, err := instructions.Parse("Dockerfile", []byte(`
# build defines stage for compiling the binary
FROM --platform=$BUILDPLATFORM alpine AS build
RUN true

# second is described too far above

FROM alpine AS second
# binary adds	the compiled binary
FROM second AS Binary
`))
	if err != nil {
		t.Fatal(err)
	}
	got := ListTargets(f)
	want := Targets{Targets: []Target{
		{Name: "build", Description: "defines stage for compiling the binary", Base: "alpine", Platform: "$BUILDPLATFORM", Location: at(instructions.Range{Line: 3})},
		{Name: "second", Base: "alpine", Location: at(instructions.Range{Line: 8})},
		{Name: "binary", Default: true, Description: "adds\tthe compiled binary", Base: "second", Location: at(instructions.Range{Line: 10})},
	}}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var b strings.Builder
	if err := got.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	table := "TARGET           DESCRIPTION\nbuild            defines stage for compiling the binary\nsecond           \nbinary (default) adds\\tthe compiled binary\n"
	if d := cmp.Diff(table, b.String()); d != "" {
		t.Error(d)
	}
}
