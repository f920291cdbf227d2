package lint

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// setup is the input of a check.
type setup struct {
	text   string
	args   map[string]string
	target string
	all    bool
	ignore []string
	bases  map[string]instructions.Image
	noPlan bool // the plan fails
}

func (s setup) check(t testing.TB) Report {
	t.Helper()
	f, err := instructions.Parse("Dockerfile", []byte(s.text))
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(f, s.args)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		PlanOptions: plan.Options{Target: s.target, BuildArgs: s.args, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}},
		Ignore:      s.ignore, AllStages: s.all, Bases: map[plan.Source]instructions.Image{},
	}

	for name, config := range s.bases {
		o.Bases[plan.Source{Image: name}] = config
		o.Bases[plan.Source{Image: name, Platform: "linux/arm64"}] = config
	}

	if o.Plan, err = plan.New(f, o.PlanOptions); (err != nil) != s.noPlan {
		t.Fatalf("plan: %v", err)
	}

	return l.Check(o)
}

// base is an image with this environment.
func base(env ...string) instructions.Image {
	var img instructions.Image
	img.OS, img.Architecture = "linux", "amd64"
	img.RootFS.DiffIDs = []digest.Digest{digest.FromString("a layer")}
	img.Config.Env = env
	return img
}

func lines(r Report) (out []string) {
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%d %s: %s", f.Line, f.Rule, f.Msg))
	}
	return out
}

// TestRules has the examples of BuildKit's documentation and of BuildKit's tests.
func TestRules(t *testing.T) {
	alpine := map[string]instructions.Image{"alpine": base("PATH=/bin")}
	shell := base()
	shell.Config.Shell = []string{"/bin/bash", "-c"}
	arm := base()
	arm.Architecture = "arm64"
	triggers := base()
	triggers.Config.OnBuild = []string{"ARG A=1", "WORKDIR b", "CMD a"}
	for _, tc := range []struct {
		name string
		in   setup
		want []string
	}{
		// StageNameCasing
		{"stage name", setup{text: "FROM alpine AS BuilderBase"}, []string{"1 StageNameCasing: Stage name 'BuilderBase' should be lowercase"}},
		{"stage name in small letters", setup{text: "FROM alpine AS builder-base"}, nil},

		// FromAsCasing
		{"as", setup{text: "FROM debian:latest as builder"}, []string{"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"}},
		{"AS", setup{text: "from debian:latest AS builder"}, []string{"1 FromAsCasing: 'AS' and 'from' keywords' casing do not match"}},
		{"both large", setup{text: "FROM debian:latest AS deb-builder"}, nil},
		{"both small", setup{text: "from debian:latest as deb-builder"}, nil},
		{"as with a flag", setup{text: "FROM --platform=$BUILDPLATFORM debian as builder"}, []string{"1 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"}},

		// NoEmptyContinuation
		{"empty continuation", setup{text: "FROM alpine\nEXPOSE \\\n\n80"}, []string{"4 NoEmptyContinuation: Empty continuation line"}},
		{"comment within", setup{text: "FROM alpine\nEXPOSE \\\n# Port\n80"}, nil},

		// ConsistentInstructionCasing
		{"casing", setup{text: "From alpine\nRun echo hello > /greeting.txt\nEntRYpOiNT [\"cat\", \"/greeting.txt\"]"}, []string{
			"1 ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase)",
			"2 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (uppercase)",
			"3 ConsistentInstructionCasing: Command 'EntRYpOiNT' should match the case of the command majority (uppercase)",
		}},
		{"all large", setup{text: "FROM alpine\nRUN echo hello > /greeting.txt\nENTRYPOINT [\"cat\", \"/greeting.txt\"]"}, nil},
		{"all small", setup{text: "from alpine\nrun echo hello > /greeting.txt\nentrypoint [\"cat\", \"/greeting.txt\"]"}, nil},
		{"most small", setup{text: "FROM scratch\ncopy a /foo\ncopy b /bar"}, []string{
			"1 ConsistentInstructionCasing: Command 'FROM' should match the case of the command majority (lowercase)",
		}},
		{"here-document", setup{text: "FROM alpine\nRUN <<'EOT'\nenv\nEOT"}, nil},

		// DuplicateStageName
		{"duplicate", setup{text: "FROM debian:latest AS builder\nRUN true\nFROM golang:latest AS builder"}, []string{
			`3 DuplicateStageName: Duplicate stage name "builder", stage names should be unique`,
		}},
		{"unique", setup{text: "FROM debian:latest AS deb-builder\nFROM golang:latest AS go-builder"}, nil},

		// ReservedStageName
		{"reserved", setup{text: "FROM alpine AS scratch\nFROM alpine AS context"}, []string{
			`1 ReservedStageName: Stage name should not use the same name as reserved stage "scratch"`,
			`2 ReservedStageName: Stage name should not use the same name as reserved stage "context"`,
		}},
		{"not reserved", setup{text: "FROM scratch\nFROM scratch AS a"}, nil},

		// JSONArgsRecommended
		{"shell form", setup{text: "FROM alpine\nENTRYPOINT my-program start\nCMD a"}, []string{
			"2 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
			"3 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
		}},
		{"exec form", setup{text: `FROM alpine` + "\n" + `ENTRYPOINT ["my-program", "start"]`}, nil},
		{"explicit shell", setup{text: "FROM alpine\nRUN apk add bash\nSHELL [\"/bin/bash\", \"-c\"]\nENTRYPOINT echo \"hello world\""}, nil},
		{"shell of the stage below", setup{text: "FROM scratch AS a\nSHELL [\"/bin/bash\", \"-c\"]\nFROM a\nCMD echo"}, nil},
		{"shell of the base", setup{text: "FROM x\nCMD echo", bases: map[string]instructions.Image{"x": shell}}, nil},
		{"healthcheck in shell form", setup{text: "FROM alpine\nHEALTHCHECK CMD a"}, nil},

		// MaintainerDeprecated
		{"maintainer", setup{text: "FROM scratch\nMAINTAINER moby@example.com"}, []string{
			"2 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
		}},
		{"authors", setup{text: "FROM scratch\nLABEL org.opencontainers.image.authors=\"moby@example.com\""}, nil},

		// UndefinedArgInFrom
		{"undefined in FROM", setup{text: "FROM node:22${VARIANT} AS jsbuilder"}, []string{"1 UndefinedArgInFrom: FROM argument 'VARIANT' is not declared"}},
		{"defined in FROM", setup{text: "ARG VARIANT=\"-alpine3.20\"\nFROM node:22${VARIANT} AS jsbuilder"}, nil},
		{"declared, no value", setup{text: "ARG DEBUG\nFROM scratch${DEBUG}"}, nil},
		{"slip in FROM", setup{text: "FROM --platform=$BULIDPLATFORM scratch", noPlan: true}, []string{
			"1 UndefinedArgInFrom: FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)",
		}},

		// WorkdirRelativePath
		{"relative", setup{text: "FROM nginx AS web\nWORKDIR usr/share/nginx/html\nCOPY public ."}, []string{
			`2 WorkdirRelativePath: Relative workdir "usr/share/nginx/html" can have unexpected results if the base image changes`,
		}},
		{"absolute", setup{text: "FROM nginx AS web\nWORKDIR /usr/share/nginx/html\nWORKDIR img\nCOPY public ."}, nil},
		{"absolute below", setup{text: "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR subdir/"}, nil},
		{"variable", setup{text: "FROM nginx\nARG DIR=/app\nWORKDIR $DIR"}, nil},

		// UndefinedVar
		{"undefined", setup{text: "FROM alpine AS base\nCOPY x$foo ."}, []string{"2 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"undefined, base known", setup{text: "FROM alpine AS base\nCOPY x$FOO .", bases: alpine}, []string{"2 UndefinedVar: Usage of undefined variable '$FOO'"}},
		{"declared", setup{text: "FROM alpine AS base\nARG foo\nCOPY x$foo .", bases: alpine}, nil},
		{"undefined in ARG", setup{text: "FROM alpine AS base\nARG VERSION=$foo", bases: alpine}, []string{"2 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"ARG that is given", setup{text: "FROM alpine AS base\nARG VERSION=$foo", args: map[string]string{"VERSION": "1"}, bases: alpine}, nil},
		{"of the base", setup{text: "FROM python AS base\nARG VERSION=$PYTHON_VERSION", bases: map[string]instructions.Image{"python": base("PYTHON_VERSION=3")}}, nil},
		{"of an unknown base", setup{text: "FROM python AS base\nARG VERSION=$PYTHON_VERSION\nENV PATH=$GOPATH/bin:$PATH"}, nil},
		{"slip", setup{text: "FROM alpine\nENV PATH=$PAHT:/app/bin"}, []string{"2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"}},
		{"slip, base known", setup{text: "FROM alpine\nENV PATH=$PAHT:/app/bin", bases: alpine}, []string{"2 UndefinedVar: Usage of undefined variable '$PAHT' (did you mean $PATH?)"}},
		{"slip of a plural", setup{text: "FROM alpine\nARG DIR_BINARIES=binaries/\nARG DIR_ASSETS=assets/\nARG DIR_CONFIG=config/\nCOPY x$DIR_ASSET ."}, []string{
			"5 UndefinedVar: Usage of undefined variable '$DIR_ASSET' (did you mean $DIR_ASSETS?)",
		}},
		{"declared too late", setup{text: "FROM alpine\nCOPY x$FOO .\nARG FOO=bar\nRUN echo $FOO"}, []string{"2 UndefinedVar: Usage of undefined variable '$FOO'"}},
		{"global only", setup{text: "ARG FOO=1\nFROM alpine\nCOPY x$FOO ."}, []string{"3 UndefinedVar: Usage of undefined variable '$FOO'"}},
		{"of the stage below", setup{text: "FROM alpine AS base\nARG foo=Dockerfile\nFROM base\nCOPY x$foo ."}, nil},
		{"of another stage", setup{text: "FROM alpine AS a\nARG foo=1\nFROM alpine\nCOPY x$foo .", all: true}, []string{"4 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"of a stage beside it", setup{text: "FROM scratch AS p\nFROM p AS a\nARG foo=1\nFROM p\nCOPY x$foo .", all: true}, []string{"5 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"shell's variable", setup{text: "FROM alpine\nRUN echo $foo\nCMD [\"$foo\"]"}, nil},
		{"with a default", setup{text: "FROM scratch\nENV a=${foo:-$bar}"}, []string{
			"2 UndefinedVar: Usage of undefined variable '$foo'", "2 UndefinedVar: Usage of undefined variable '$bar'",
		}},
		{"in a here-document", setup{text: "FROM scratch\nCOPY <<A <<'B' /\n$foo\nA\n$bar\nB"}, []string{"2 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"in a mount", setup{text: "FROM scratch\nRUN --mount=type=cache,target=/$foo true"}, []string{"2 UndefinedVar: Usage of undefined variable '$foo'"}},
		{"stages that are built", setup{text: "FROM scratch AS first\nCOPY x$foo .\nFROM scratch AS second\nCOPY x$bar ."}, []string{
			"4 UndefinedVar: Usage of undefined variable '$bar'",
		}},
		{"all stages", setup{text: "FROM scratch AS first\nCOPY x$foo .\nFROM scratch AS second\nCOPY x$bar .", all: true}, []string{
			"2 UndefinedVar: Usage of undefined variable '$foo'", "4 UndefinedVar: Usage of undefined variable '$bar'",
		}},
		{"target", setup{text: "FROM scratch AS first\nCOPY x$foo .\nFROM scratch AS second\nCOPY x$bar .", target: "first"}, []string{
			"2 UndefinedVar: Usage of undefined variable '$foo'",
		}},
		{"declared by a trigger of the base", setup{text: "FROM t\nCOPY x$A .", bases: map[string]instructions.Image{"t": triggers}}, []string{
			`1 WorkdirRelativePath: Relative workdir "b" can have unexpected results if the base image changes`,
			"1 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
		}},
		{"declared by a trigger of a stage", setup{text: "FROM scratch AS t\nONBUILD ARG A=1\nFROM t AS u\nCOPY x$A .\nFROM u\nCOPY x$A ."}, nil},

		{"triggers run once", setup{text: "FROM scratch AS t\nONBUILD CMD a\nFROM t AS u\nFROM u"}, []string{
			"3 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
		}},

		// MultipleInstructionsDisallowed
		{"twice", setup{text: "FROM alpine\nENTRYPOINT [\"echo\", \"Hello, Norway!\"]\nENTRYPOINT [\"echo\", \"Hello, Sweden!\"]"}, []string{
			"2 MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
		}},
		{"of each kind", setup{text: "FROM scratch\nENTRYPOINT [\"a\"]\nCMD [\"a\"]\nHEALTHCHECK CMD [\"a\"]\nCOPY a b\nENTRYPOINT [\"b\"]\nCMD [\"b\"]\nHEALTHCHECK NONE"}, []string{
			"2 MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used",
			"3 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
			"4 MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used",
		}},
		{"once, and in a healthcheck", setup{text: "FROM python:alpine\nRUN apk add curl\nHEALTHCHECK --interval=1s --timeout=3s \\\n CMD [\"curl\"]\nCMD [\"python\"]"}, nil},
		{"in two stages", setup{text: "FROM scratch AS a\nENTRYPOINT [\"a\"]\nFROM a\nENTRYPOINT [\"b\"]"}, nil},

		// LegacyKeyValueFormat
		{"legacy", setup{text: "FROM scratch\nENV testkey value\nLABEL key value"}, []string{
			`2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
			`3 LegacyKeyValueFormat: "LABEL key=value" should be used instead of legacy "LABEL key value" format`,
		}},
		{"legacy on several lines", setup{text: "FROM alpine\nENV DEPS \\\n    curl \\\n    git"}, []string{
			`2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format`,
		}},
		{"not legacy", setup{text: "FROM alpine\nARG foo=bar\nENV DEPS=\"\\\n    curl \\\n    git\""}, nil},

		// InvalidBaseImagePlatform
		{"platform of the base", setup{text: "FROM x", bases: map[string]instructions.Image{"x": arm}}, []string{
			`1 InvalidBaseImagePlatform: Base image x was pulled with platform "linux/arm64", expected "linux/amd64" for current build`,
		}},
		{"right platform", setup{text: "FROM x", bases: map[string]instructions.Image{"x": base()}}, nil},
		{"no layers", setup{text: "FROM x", bases: map[string]instructions.Image{"x": {Image: ocispec.Image{Platform: arm.Platform}}}}, nil},
		{"no platform", setup{text: "FROM x", bases: map[string]instructions.Image{"x": {}}}, nil},

		// RedundantTargetPlatform
		{"redundant", setup{text: "FROM --platform=$TARGETPLATFORM alpine AS builder\nRUN apk add --no-cache git"}, []string{
			"1 RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
		}},
		{"build platform", setup{text: "FROM --platform=${BUILDPLATFORM} alpine AS builder"}, nil},

		// SecretsUsedInArgOrEnv
		{"secrets", setup{text: "FROM scratch\nARG AWS_ACCESS_KEY_ID\nARG AWS_SECRET_ACCESS_KEY"}, []string{
			`2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "AWS_ACCESS_KEY_ID")`,
			`3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "AWS_SECRET_ACCESS_KEY")`,
		}},
		{"secrets by name", setup{text: "FROM scratch\nENV SUPER_Secret=foo\nENV password=bar a=baz\nENV apikey=bar sunflower=foo\nENV git_key="}, []string{
			`2 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "SUPER_Secret")`,
			`3 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "password")`,
			`4 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "apikey")`,
			`5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV "git_key")`,
		}},
		{"no secrets", setup{text: "FROM scratch\nENV PUBLIC_KEY=\nARG public_token\nARG SECRET_PASSPHRASE_FILE\nENV password_file=bar\nARG AUTH_MODULE_VERSION\nENV monkey=1"}, nil},
		{"secret mounts", setup{text: "FROM scratch\nRUN --mount=type=secret,id=aws_key_id,env=AWS_ACCESS_KEY_ID aws s3 cp s3://my-bucket/file ."}, nil},

		// InvalidDefaultArgInFrom
		{"no default", setup{text: "ARG TAG\nFROM busybox:${TAG}", noPlan: true}, []string{
			"2 InvalidDefaultArgInFrom: Default value for ARG busybox:${TAG} results in empty or invalid base image name",
		}},
		{"no default, given", setup{text: "ARG TAG\nFROM busybox:${TAG}", args: map[string]string{"TAG": "1"}}, []string{
			"2 InvalidDefaultArgInFrom: Default value for ARG busybox:${TAG} results in empty or invalid base image name",
		}},
		{"default", setup{text: "ARG TAG=latest\nFROM busybox:${TAG}"}, nil},
		{"default may be empty", setup{text: "ARG VARIANT\nFROM busybox:stable${VARIANT}"}, nil},
		{"transport", setup{text: "ARG DIR=/images/Base\nFROM dir:$DIR"}, nil},
		{"default in place", setup{text: "ARG TAG\nFROM alpine:${TAG:-3.14}"}, nil},

		// FromPlatformFlagConstDisallowed
		{"constant platform", setup{text: "FROM --platform=linux/amd64 alpine AS base\nRUN apk add --no-cache git"}, []string{
			`1 FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64"`,
		}},
		{"platform in the name", setup{text: "FROM --platform=linux/amd64 alpine AS build_amd64\nFROM --platform=linux/amd64 alpine AS linux"}, nil},

		// EmptyCopySource
		{"empty source", setup{text: "FROM scratch\nARG A\nARG B=\nCOPY ${A} x\nADD $A \"$B$A\" y /\nCOPY --from=alpine $B /\nCOPY [\"\", \"/x\"]\nCOPY ${A:-a} $B/b /"}, []string{
			`4 EmptyCopySource: Source "${A}" is empty, because of A: the whole build context is copied. Give the variable a value, or write . if that is meant`,
			`5 EmptyCopySource: Source "$A" is empty, because of A: the whole build context is copied. Give the variable a value, or write . if that is meant`,
			`5 EmptyCopySource: Source "\"$B$A\"" is empty, because of B, A: the whole build context is copied. Give the variable a value, or write . if that is meant`,
			`6 EmptyCopySource: Source "$B" is empty, because of B: all files of alpine are copied. Give the variable a value, or write . if that is meant`,
			`7 EmptyCopySource: Source "" is empty: the whole build context is copied. Write . if that is meant`,
		}},
		{"empty source with a value", setup{text: "FROM scratch\nARG A\nCOPY $A x", args: map[string]string{"A": "a"}}, nil},
		{"empty source, of an unknown base", setup{text: "FROM alpine\nCOPY $A x"}, nil},
		{"empty source, of a known base", setup{text: "FROM alpine\nARG A\nCOPY $A$PATH x\nCOPY $A x\n", bases: alpine}, []string{
			`4 EmptyCopySource: Source "$A" is empty, because of A: the whole build context is copied. Give the variable a value, or write . if that is meant`,
		}},
		{"empty source, skipped", setup{text: "FROM scratch\nARG A\n# check=skip=EmptyCopySource\nCOPY $A x"}, nil},

		// CopyIgnoredFile
		{"ignored", setup{text: "FROM scratch\nCOPY ./tmp/helloworld.txt /helloworld.txt\nADD tmp/x /", ignore: []string{"tmp/*"}}, []string{
			`2 CopyIgnoredFile: Attempting to Copy file "tmp/helloworld.txt" that is excluded by .dockerignore`,
			`3 CopyIgnoredFile: Attempting to Add file "tmp/x" that is excluded by .dockerignore`,
		}},
		{"not ignored", setup{text: "FROM scratch\nCOPY ./forever/helloworld.txt /helloworld.txt", ignore: []string{"*/tmp/*"}}, nil},
		{"ignored of a stage", setup{text: "FROM scratch AS a\nFROM scratch\nCOPY --from=a /foobar /", ignore: []string{"foobar"}}, nil},
		{"ignored but for some", setup{text: "FROM scratch\nCOPY ./Dockerfile ./other .", ignore: []string{"**", "!Dockerfile"}}, nil},
		{"all of the context", setup{text: "FROM scratch\nCOPY . .", ignore: []string{".*"}}, nil},
		{"all is ignored", setup{text: "FROM scratch\nCOPY . .", ignore: []string{"*"}}, []string{
			`2 CopyIgnoredFile: Attempting to Copy file "." that is excluded by .dockerignore`,
		}},
		{"URL", setup{text: "FROM scratch\nADD https://example.com/a /", ignore: []string{"*"}}, nil},

		// InvalidDefinitionDescription
		{"descriptions are not looked at", setup{text: "# a non-descriptive comment\nFROM scratch AS base"}, nil},
		{"descriptions", setup{text: "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n# BasE this is the BasE image\nFROM scratch AS base\n" +
			"# definitely a bad comment\nARG version=latest\n# definitely a bad comment\nARG foo=baz bar=qux baz=quux"}, []string{
			"3 InvalidDefinitionDescription: Comment for ARG should follow the format: `# foo <description>`",
			"5 InvalidDefinitionDescription: Comment for FROM should follow the format: `# base <description>`",
			"7 InvalidDefinitionDescription: Comment for ARG should follow the format: `# version <description>`",
			"9 InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>`",
		}},
		{"good descriptions", setup{text: "# check=experimental=all\n# base is a stage for compiling source\nFROM scratch AS base\n# VERSION This is the version number.\nARG VERSION=1\n" +
			"# baz this is the baz\nARG foo=baz bar=qux baz=quux\n# other\n#\nARG bit=bat"}, nil},
		{"an empty line between", setup{text: "# check=experimental=all\n# a non-descriptive comment\n\nFROM scratch AS base\n# another\n\nARG VERSION=1"}, nil},

		// ExposeProtoCasing
		{"protocol", setup{text: "FROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp"}, []string{
			"2 ExposeProtoCasing: Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
			"2 ExposeProtoCasing: Defined protocol '8080/TCP' in EXPOSE instruction should be lowercase",
		}},
		{"protocol in small letters", setup{text: "FROM alpine\nEXPOSE 80/tcp"}, nil},

		// ExposeInvalidFormat
		{"host port", setup{text: "FROM scratch\nARG P=5000:5000\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 $P 8000"}, []string{
			"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '5000:5000'",
			"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
			"3 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '[::1]:8080:8080'",
		}},
		{"port", setup{text: "FROM alpine\nEXPOSE 80"}, nil},
		{"unset variable of EXPOSE", setup{text: "FROM scratch\nEXPOSE 80 $foo"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, lines(tc.in.check(t))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDirective(t *testing.T) {
	const text = "FROM scratch as base\ncopy Dockerfile .\n"
	as := "2 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"
	casing := "3 ConsistentInstructionCasing: Command 'copy' should match the case of the command majority (uppercase)"
	for _, tc := range []struct {
		directive, arg string
		want           []string
		fail           bool
	}{
		{directive: "check=skip=all"},
		{directive: "check=skip=all;error=true"},
		{directive: "check=skip=ConsistentInstructionCasing,FromAsCasing"},
		{directive: "check=skip=ConsistentInstructionCasing, // no more", want: []string{as}},
		{directive: "check=skip=NoSuchRule", want: []string{as, casing}},
		{directive: "check=skip=ConsistentInstructionCasing;error=true", want: []string{as}, fail: true},
		{directive: "check=error=true", want: []string{as, casing}, fail: true},
		{directive: "check=skip=all", arg: "skip=ConsistentInstructionCasing;error=true", want: []string{as}, fail: true},
		{directive: "check=error=true", arg: "skip=all"},
	} {
		t.Run(tc.directive+" "+tc.arg, func(t *testing.T) {
			s := setup{text: "#" + tc.directive + "\n" + text}
			if tc.arg != "" {
				s.args = map[string]string{"BUILDKIT_DOCKERFILE_CHECK": tc.arg}
			}
			got := s.check(t)
			if d := cmp.Diff(tc.want, lines(got)); d != "" || got.Fail != tc.fail {
				t.Errorf("fail %v, %s", got.Fail, d)
			}
		})
	}

	f, err := instructions.Parse("Dockerfile", []byte("FROM scratch"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(f, map[string]string{"BUILDKIT_DOCKERFILE_CHECK": "nonsense"}); err == nil || !strings.Contains(err.Error(), "BUILDKIT_DOCKERFILE_CHECK=nonsense") {
		t.Errorf("got %v", err)
	}
}

// TestComments: a comment before an instruction holds for that instruction.
func TestComments(t *testing.T) {
	got := setup{text: "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv // allow\nENV password=bar\n# check=skip=all\nARG password\n" +
		"# check=skip=JSONArgsRecommended\nCMD a\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n# check=skip=WorkdirRelativePath\nWORKDIR a\nARG token"}.check(t)
	want := []string{`12 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG "token")`}
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Error(d)
	}
}

func TestFinding(t *testing.T) {
	got := setup{text: "FROM scratch\nCMD \\\n a"}.check(t).Findings
	if len(got) != 1 || got[0].String() != "Dockerfile:2: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals" {
		t.Fatalf("got %v", got)
	}
	if d := cmp.Diff([]string{"CMD \\", " a"}, got[0].Source); d != "" || got[0].URL == "" || got[0].EndLine != 3 {
		t.Errorf("%+v, %s", got[0], d)
	}
}

// TestTexts: in a file of several texts, a finding names its text; the linter knows the variables
// of --env.
func TestTexts(t *testing.T) {
	f, err := instructions.ParseTexts(
		instructions.Text{Name: "a", Data: []byte("FROM scratch AS x\nCMD a\n# last")},
		instructions.Text{Name: "b", Data: []byte("# escape=`\n\nLABEL a=$flag b=$none\nENV a `\n\nb\n")},
	)
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{PlanOptions: plan.Options{
		Env: []plan.EnvVar{{Key: "flag", Value: "1"}}, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}}
	if o.Plan, err = plan.New(f, o.PlanOptions); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range l.Check(o).Findings {
		got = append(got, f.String()+" | "+strings.Join(f.Source, " "))
	}
	want := []string{
		"a:2: JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals | CMD a",
		"b:3: UndefinedVar: Usage of undefined variable '$none' | LABEL a=$flag b=$none",
		`b:4: LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format | ENV a ` + "`  b",
		"b:6: NoEmptyContinuation: Empty continuation line | b",
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestCopyAllBeforeInstall(t *testing.T) {
	const from = "FROM node\nWORKDIR /app\n"
	for _, tc := range []struct {
		text string
		want string // a part of the message; empty: no finding
	}{
		{"COPY . .\nRUN npm ci", `Any change of the context runs "npm ci" in line 4 again; copy package.json and package-lock.json first`},
		{"ADD ./ /app\nRUN set -e; npm install --omit=dev && npm run build", `"npm install --omit=dev"`},
		{"COPY --chown=node . .\nRUN NODE_ENV=production npm --prefer-offline ci 2>/dev/null", `"npm --prefer-offline ci"`},
		{"COPY * ./\nRUN cd /app \\\n && yarn", `"yarn"`},
		{"COPY . .\nRUN corepack enable && pnpm i --frozen-lockfile", `"pnpm i --frozen-lockfile"`},
		{"COPY . .\nRUN pip3 install --no-cache-dir -r requirements.txt", "copy the requirements file first"},
		{"COPY . .\nRUN python -m pip install -rrequirements.txt", "requirements"},
		{"COPY . .\nRUN if true; then go mod download; fi", "go.mod and go.sum"},
		{"COPY . .\nRUN bundle install --jobs 4", "Gemfile"},
		{"COPY . .\nRUN composer install --no-dev", "composer.lock"},
		{"COPY . .\nRUN cargo build --release", "Cargo.toml"},
		{"COPY . .\nRUN ./mvnw -B dependency:go-offline", "pom.xml"},
		{"COPY . .\nRUN <<E\nset -e\nnpm ci\nE", `"npm ci"`},
		{"COPY . .\nRUN [\"npm\", \"ci\"]", `"npm ci"`},
		{"COPY . .\nRUN echo a\nCOPY x y\nRUN npm ci", `in line 6`},

		{"COPY package.json package-lock.json ./\nRUN npm ci\nCOPY . .", ""},
		{"COPY package*.json ./\nRUN npm ci\nCOPY . .\nRUN npm ci --offline", ""},
		{"RUN --mount=type=cache,target=/root/.npm npm ci\nCOPY . .", ""},
		{"COPY . .\nRUN --mount=type=cache,target=/root/.npm npm ci", ""},
		{"COPY . .\nRUN --mount=type=bind,source=package.json,target=package.json npm ci", ""},
		{"COPY . .\nRUN npm install -g typescript", ""},
		{"COPY . .\nRUN npm run build", ""},
		{"COPY . .\nRUN yarn build", ""},
		{"COPY . .\nRUN pip install .", ""},
		{"COPY . .\nRUN pip install flask", ""},
		{"COPY . .\nRUN apt-get install -y make", ""},
		{"COPY . .\nRUN echo npm ci", ""},
		{"COPY . .\nRUN # npm ci\n", ""},
		{"COPY --from=x . .\nRUN npm ci", ""},
		{"COPY --exclude=src . .\nRUN npm ci", ""},
		{"COPY src .\nRUN npm ci", ""},
		{"COPY . .\nFROM node\nRUN npm ci", ""},
		{"COPY . .\n# check=skip=CopyAllBeforeInstall\nRUN npm ci", ""},
		{"# check=skip=CopyAllBeforeInstall\nCOPY . .\nRUN npm ci", ""},
	} {
		t.Run(tc.text, func(t *testing.T) {
			got := setup{text: from + tc.text}.check(t).Findings
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("got %v", got)
			case tc.want != "" && (len(got) != 1 || got[0].Rule != CopyAllBeforeInstall || got[0].Line != 3 || !strings.Contains(got[0].Msg, tc.want)):
				t.Errorf("got %v", got)
			}
		})
	}

	deps := "FROM node AS deps\nCOPY package.json .\nRUN npm ci\nFROM deps\nCOPY . .\nRUN npm ci --offline"
	if got := (setup{text: deps}).check(t).Findings; len(got) > 0 {
		t.Errorf("installed in the stage below: %v", got)
	}
	if got := (setup{text: "# check=skip=CopyAllBeforeInstall\n" + from + "COPY . .\nRUN npm ci"}).check(t).Findings; len(got) > 0 {
		t.Errorf("skipped: %v", got)
	}
}

func TestRecursive(t *testing.T) {
	for text, want := range map[string]bool{
		"chown -R app /srv": true, "a && chmod -vR u+x b": true, "chown app:app --recursive x": true, "chgrp x \\\n -R y": true,
		"/bin/chown -R a b": true, "chown app /srv": false, "ls -R; chown a b": false, "chown a b; ls -R": false, "cp -R a b": false,
		"chmod u+x a\nls -R": false, "echo schown -R": false,
	} {
		if got := Recursive(&plan.Run{Argv: []string{"/bin/sh", "-c", text}}); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}

	if !Recursive(&plan.Run{Argv: []string{"/dev/pipes/EOF"}, Files: []plan.InlineFile{{Data: []byte("#!/bin/sh\nchown -R a b\n")}}}) {
		t.Error("here-document")
	}
}

func TestDuplicated(t *testing.T) {
	text := "FROM scratch\nRUN chown -R a b\n# check=skip=RecursiveChangeDuplicatesFiles\nRUN chown -R a \\\n b"
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	place := func(line int) instructions.Place {
		return instructions.Place{File: "Dockerfile", Line: line, EndLine: line}
	}
	got, ok := l.Duplicated(place(2), 12_345_678)
	if want := "Dockerfile:2: RecursiveChangeDuplicatesFiles: 12.3MB of this layer are files of lower layers"; !ok || !strings.HasPrefix(got.String(), want) {
		t.Errorf("got %v", got)
	}
	if _, ok := l.Duplicated(place(2), MinDuplicated-1); ok {
		t.Error("too little to matter")
	}
	if _, ok := l.Duplicated(place(4), 12_345_678); ok {
		t.Error("skipped by a comment")
	}
	if got, ok := l.Duplicated(place(1), 12_345_678); !ok || got.Line != 1 {
		t.Error("of a trigger")
	}
}

// TestDocumented: each rule has a row in docs/checks.md.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	for rule := range strings.FieldsSeq(`StageNameCasing FromAsCasing NoEmptyContinuation ConsistentInstructionCasing DuplicateStageName
		ReservedStageName JSONArgsRecommended MaintainerDeprecated UndefinedArgInFrom WorkdirRelativePath UndefinedVar
		MultipleInstructionsDisallowed LegacyKeyValueFormat InvalidBaseImagePlatform RedundantTargetPlatform SecretsUsedInArgOrEnv
		InvalidDefaultArgInFrom FromPlatformFlagConstDisallowed CopyIgnoredFile InvalidDefinitionDescription ExposeProtoCasing
		ExposeInvalidFormat CopyAllBeforeInstall RecursiveChangeDuplicatesFiles`) {
		if !strings.Contains(string(doc), "| `"+rule+"` |") {
			t.Errorf("no row for %s", rule)
		}
	}
}

// TestHostile: the time does not grow faster than the file, and the number of findings is bounded.
func TestHostile(t *testing.T) {
	const n = 20_000
	rep := func(line string) string {
		var b strings.Builder
		b.WriteString("FROM scratch AS s\n")
		for i := range n {
			b.WriteString(strings.ReplaceAll(line, "%", fmt.Sprint(i)) + "\n")
		}
		return b.String()
	}

	patterns := make([]string, 1000)
	for i := range patterns {
		patterns[i] = fmt.Sprintf("a%d/**/b*c", i)
	}
	for name, text := range map[string]string{
		"variables":   rep("ENV NAME%=$OTHER%"),
		"growth":      rep("ENV A=$A${A}a$A"),
		"stages":      "FROM scratch\n" + strings.Replace(rep("FROM s AS s"), "FROM scratch AS s", "FROM scratch AS s\nENV A=1", 1),
		"copies":      rep("COPY a/%/b/c/d/e/f /"),
		"commands":    rep("CMD a"),
		"secrets":     rep("ENV a_key_%=1 b_key_%=2"),
		"installs":    rep("RUN npm --a --a --a --a ; npm --b%\nCOPY . ."),
		"comments":    rep("# check=skip=X\n# a\nCMD [\"a\"]"),
		"one command": "FROM scratch\nRUN " + strings.Repeat("npm --a ", 200_000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			f, err := instructions.Parse("Dockerfile", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			l, err := New(f, nil)
			if err != nil {
				t.Fatal(err)
			}
			o := plan.Options{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
			p, err := plan.New(f, o)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			r := l.Check(Options{Plan: p, PlanOptions: o, AllStages: true, Ignore: patterns})
			if took := time.Since(start); took > 15*time.Second*slow {
				t.Errorf("took %v", took)
			} else {
				t.Log(took, len(r.Findings), r.Dropped)
			}

			if len(r.Findings) > MaxFindings {
				t.Error(len(r.Findings))
			}
		})
	}
}

// BenchmarkCheck: a file of 10,000 instructions is parsed, planned and checked.
func BenchmarkCheck(b *testing.B) {
	var text strings.Builder
	text.WriteString("FROM scratch\nENV A=1\n")
	for i := range 2500 {
		fmt.Fprintf(&text, "ENV V%d=$A\nRUN make part%d\nCOPY --chown=$A src%d /dst/\nLABEL l%d=\"$V%d\"\n", i, i, i, i, i)
	}
	for b.Loop() {
		(setup{text: text.String(), ignore: []string{".git", "*.o", "build/**"}}).check(b)
	}
}
