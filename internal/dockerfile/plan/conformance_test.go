package plan_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// wantConfig has the fields of a config that the conformance set compares.
type wantConfig struct {
	Env, Cmd, Entrypoint, ExposedPorts, Volumes, OnBuild, Shell []string
	WorkingDir, User, StopSignal, Author                        string
	Labels                                                      map[string]string
	Healthcheck                                                 *dockerspec.HealthcheckConfig
}

const pathValue = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func configOf(img instructions.Image) wantConfig {
	c := img.Config
	got := wantConfig{
		Env: slices.Clone(c.Env), Cmd: c.Cmd, Entrypoint: c.Entrypoint, OnBuild: c.OnBuild, Shell: c.Shell,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal, Author: img.Author,
		Labels: c.Labels, Healthcheck: c.Healthcheck,
	}

	for i, kv := range got.Env {
		if kv == "PATH="+pathValue {
			kv = "PATH"
		}
		got.Env[i] = strings.ReplaceAll(kv, pathValue, "$PATH")
	}

	return got
}

// TestConformanceConfigs has the cases of the conformance set whose configs
// need no files, with the reference engine's results.
func TestConformanceConfigs(t *testing.T) {
	for _, tc := range []struct {
		name, target, text string
		args               map[string]string
		want               wantConfig
	}{
		{
			name: "arg-scope",
			args: map[string]string{"G": "cli", "A": "cli-a", "UNUSED": "x"},
			text: `ARG G=global
ARG H=${G}-h
ARG IMG=busybox
FROM ${IMG} AS one
RUN echo "G=[$G] H=[$H]" > /before
ARG G
ARG H
ARG A=a
ARG B=${A}-b
ARG C
ENV A=env-a
RUN echo "G=[$G] H=[$H] A=[$A] B=[$B] C=[${C-unset}]" > /after
ARG A=again
RUN echo "A=[$A]" > /shadow
ENV FROMARG=$B
FROM ${IMG} AS two
COPY --from=one /before /after /shadow /one/
RUN echo "B=[$B] G=[$G] FROMARG=[$FROMARG]" > /two
ARG G=stage-default
RUN echo "G=[$G]" > /two-g
`,
			want: wantConfig{
				Env: []string{"PATH"},
				Cmd: []string{"sh"},
			},
		},
		{
			name: "bad-json-cmd",
			text: `FROM busybox
CMD ['single', "quotes"]
ENTRYPOINT ["a", b]
`,
			want: wantConfig{
				Env:        []string{"PATH"},
				Cmd:        []string{"/bin/sh", "-c", "['single', \"quotes\"]"},
				Entrypoint: []string{"/bin/sh", "-c", "[\"a\", b]"},
			},
		},
		{
			name: "continuation",
			text: "from busybox\nrun echo a \\\n# a comment inside\n    && echo b > /ab \\\n\n    && echo c >> /ab\n\trun echo tabbed > /tab\n   Env   X=1\nRUN echo \"x \\\n  y\" > /xy\n   # indented comment\nRUN echo hash#notcomment # trailing > /hash; echo \"# kept\" > /hash2\nCMD [ \"a\" ,\"b\" ]\n",
			want: wantConfig{
				Env: []string{"PATH", "X=1"},
				Cmd: []string{"a", "b"},
			},
		},
		{
			name: "copy-from-image",
			text: `FROM scratch
COPY --from=alpine:latest /etc/os-release /etc/alpine-release /etc/
COPY --from=docker.io/library/busybox /etc/passwd /etc/
`,
			want: wantConfig{
				Env:        []string{"PATH"},
				WorkingDir: "/",
			},
		},
		{
			name: "env-expansion",
			args: map[string]string{"x": "val"},
			text: `FROM busybox
ARG x
ARG path=/usr/local/lib/libfoo.so.1
ENV A=${x:-y} B=${nope:-dflt} C=${x:+alt} D=${nope:+alt}
ENV P1=${path#*/} P2=${path##*/} P3=${path%.*} P4=${path%%.*} R1=${path/lib/LIB} R2=${path//lib/LIB}
ENV ESC1=\$x ESC2=\${x} ESC3="\$x" ESC4='$x' ESC5="a\"b" ESC6=a\ b
ENV NEST=${nope:-${x:-deep}} EMPTY= SELF=$SELF:more
ENV abc=hello
ENV abc=bye def=$abc
ENV ghi=$abc
ENV PATH=/opt/bin:$PATH
ENV legacy form   with  spaces
ENV Q1="two words" Q2='single $abc' Q3=un"quo"ted
WORKDIR /w/${def}/lib
LABEL l="$abc" m='$abc' n=$abc\ x
RUN env | grep -v -E '^(HOSTNAME|HOME|PWD|SHLVL|OLDPWD|container|_|TRACEPARENT|OTEL_[A-Z_]*)=' | sort > /env
`,
			want: wantConfig{
				Env:        []string{"PATH=/opt/bin:$PATH", "A=val", "B=dflt", "C=alt", "D=", "P1=usr/local/lib/libfoo.so.1", "P2=libfoo.so.1", "P3=/usr/local/lib/libfoo.so", "P4=/usr/local/lib/libfoo", "R1=/usr/local/LIB/libfoo.so.1", "R2=/usr/local/LIB/LIBfoo.so.1", "ESC1=$x", "ESC2=${x}", "ESC3=$x", "ESC4=$x", "ESC5=a\"b", "ESC6=a b", "NEST=val", "EMPTY=", "SELF=:more", "abc=bye", "def=hello", "ghi=bye", "legacy=form   with  spaces", "Q1=two words", "Q2=single $abc", "Q3=unquoted"},
				Cmd:        []string{"sh"},
				WorkingDir: "/w/hello/lib",
				Labels:     map[string]string{"l": "bye", "m": "$abc", "n": "bye x"},
			},
		},
		{
			name: "escape-directive",
			text: "# escape=`\nFROM busybox\nENV P=C:\\dir\\x Q=a` b R=`$P\nRUN echo one `\n  two > /out\nLABEL l=\"a\\b\"\nCOPY f /t\\f\n",
			want: wantConfig{
				Env:    []string{"PATH", "P=C:\\dir\\x", "Q=a b", "R=$P"},
				Cmd:    []string{"sh"},
				Labels: map[string]string{"l": "a\\b"},
			},
		},
		{
			name: "expose",
			args: map[string]string{"P": "7000"},
			text: `FROM busybox
ARG P
EXPOSE 80 443/tcp 53/udp 8000-8003 $P ${P}/udp 9000-9001/sctp 80
`,
			want: wantConfig{
				Env:          []string{"PATH"},
				Cmd:          []string{"sh"},
				ExposedPorts: []string{"443/tcp", "53/udp", "7000/tcp", "7000/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp", "8003/tcp", "9000/sctp", "9001/sctp"},
			},
		},
		{
			name: "healthcheck",
			text: `FROM busybox
HEALTHCHECK CMD old
HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=4 --start-interval=2s CMD wget -q http://localhost/ || exit 1
STOPSIGNAL SIGQUIT
`,
			want: wantConfig{
				Env:         []string{"PATH"},
				Cmd:         []string{"sh"},
				StopSignal:  "SIGQUIT",
				Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "wget -q http://localhost/ || exit 1"}, Interval: 300000000000, Timeout: 3000000000, StartPeriod: 90000000000, StartInterval: 2000000000, Retries: 4},
			},
		},
		{
			name: "inherit-config",
			text: `FROM conformance-parent:1
COPY --chown=0 Dockerfile /x
`,
			want: wantConfig{
				Env:          []string{"PATH", "BASE=from-parent", "EMPTY="},
				Cmd:          []string{"parent-cmd", "a b"},
				Entrypoint:   []string{"/parent-entry"},
				WorkingDir:   "/srv",
				User:         "1234:100",
				Labels:       map[string]string{"over": "parent", "parent": "yes"},
				ExposedPorts: []string{"8080/tcp"},
				Volumes:      []string{"/data"},
				StopSignal:   "SIGUSR1",
				Healthcheck:  &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "true"}, Interval: 5000000000},
			},
		},
		{
			name: "label-quoting",
			text: "FROM busybox\nENV V=1\nLABEL a=1 b=\"two words\" c='single $V' d=\"dq $V\" e=esc\\ aped f=\"q\\\"uote\" g=$V$V\nLABEL multi=\"first \\\nsecond\" \\\n      other=x\nLABEL legacy some words here\nLABEL empty= \"quoted.key\"=\"v\" 'sq.key'=v2\nLABEL unicode=\"héllo ✓\" tab=\"a\tb\"\nLABEL a=override\nLABEL com.example/with-slash=1 eq=\"a=b=c\"\n",
			want: wantConfig{
				Env:    []string{"PATH", "V=1"},
				Cmd:    []string{"sh"},
				Labels: map[string]string{"a": "override", "b": "two words", "c": "single $V", "com.example/with-slash": "1", "d": "dq 1", "e": "esc aped", "empty": "", "eq": "a=b=c", "f": "q\"uote", "g": "11", "legacy": "some words here", "multi": "first second", "other": "x", "quoted.key": "v", "sq.key": "v2", "tab": "a\tb", "unicode": "héllo ✓"},
			},
		},
		{
			name: "maintainer",
			text: `FROM busybox
MAINTAINER A B <a@b.example>
`,
			want: wantConfig{
				Env:    []string{"PATH"},
				Cmd:    []string{"sh"},
				Author: "A B <a@b.example>",
			},
		},
		{
			name: "multistage",
			text: `FROM busybox AS Build
WORKDIR /src
COPY main.txt .
RUN mkdir out && tr a-z A-Z < main.txt > out/app && chmod 750 out/app && ln -s app out/latest
FROM busybox AS unused
RUN exit 7
FROM busybox AS mid
COPY --from=0 /src/out/ /opt/app/
FROM scratch
COPY --from=Build /src/main.txt /
COPY --from=mid /opt/app /app
COPY --from=mid /etc/passwd /etc/passwd
ENTRYPOINT ["/app/app"]
`,
			want: wantConfig{
				Env:        []string{"PATH"},
				Entrypoint: []string{"/app/app"},
				WorkingDir: "/",
			},
		},
		{
			name: "onbuild",
			text: `FROM conformance-onbuild:1
RUN cat /onbuild.txt > /seen
ONBUILD RUN echo later
ONBUILD COPY . /x
`,
			want: wantConfig{
				Env:     []string{"PATH", "ONB=dflt"},
				Cmd:     []string{"sh"},
				Labels:  map[string]string{"ob": "1"},
				OnBuild: []string{"RUN echo later", "COPY . /x"},
			},
		},
		{
			name: "predefined-args",
			args: map[string]string{"http_proxy": "http://p:1", "HTTPS_PROXY": "http://p:2", "FOO": "not-declared"},
			text: `FROM --platform=$BUILDPLATFORM busybox
RUN echo "[$http_proxy][$HTTPS_PROXY][$FOO][$TARGETARCH]" > /a
ARG TARGETARCH
ARG TARGETPLATFORM
ARG TARGETVARIANT
ARG BUILDOS
RUN echo "[$TARGETARCH][$TARGETPLATFORM][$TARGETVARIANT][$BUILDOS]" > /b
LABEL arch=$TARGETARCH
`,
			want: wantConfig{
				Env:    []string{"PATH"},
				Cmd:    []string{"sh"},
				Labels: map[string]string{"arch": "amd64"},
			},
		},
		{
			name: "reset-entrypoint",
			text: `FROM conformance-parent:1 AS a
ENTRYPOINT ["/child"]
FROM conformance-parent:1 AS b
CMD child cmd
FROM a AS c
CMD ["x"]
ENTRYPOINT []
FROM a
LABEL over=child new="a b" "quoted key"=v multi="line \
cont"
EXPOSE 53/udp 9000-9002 80/TCP
STOPSIGNAL 9
HEALTHCHECK NONE
USER root
WORKDIR sub
`,
			want: wantConfig{
				Env:          []string{"PATH", "BASE=from-parent", "EMPTY="},
				Entrypoint:   []string{"/child"},
				WorkingDir:   "/srv/sub",
				User:         "root",
				Labels:       map[string]string{"multi": "line cont", "new": "a b", "over": "child", "parent": "yes", "quoted key": "v"},
				ExposedPorts: []string{"53/udp", "80/tcp", "8080/tcp", "9000/tcp", "9001/tcp", "9002/tcp"},
				Volumes:      []string{"/data"},
				StopSignal:   "9",
				Healthcheck:  &dockerspec.HealthcheckConfig{Test: []string{"NONE"}},
			},
		},
		{
			name: "scratch-workdir",
			text: `FROM scratch
WORKDIR /a/b
COPY Dockerfile .
COPY Dockerfile /c/d/
VOLUME /v
USER 5
WORKDIR /owned
`,
			want: wantConfig{
				Env:        []string{"PATH"},
				WorkingDir: "/owned",
				User:       "5",
				Volumes:    []string{"/v"},
			},
		},
		{
			name: "shell",
			text: `FROM busybox
RUN echo $0 > /s1
SHELL ["/bin/sh", "-ec"]
RUN echo "$0" > /s2; set -o | grep -c "errexit.*on" > /s3
CMD run this
HEALTHCHECK CMD check me
`,
			want: wantConfig{
				Env:         []string{"PATH"},
				Cmd:         []string{"/bin/sh", "-ec", "run this"},
				Healthcheck: &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "check me"}},
				Shell:       []string{"/bin/sh", "-ec"},
			},
		},
		{
			name:   "target-middle",
			target: "mid",
			text: `FROM busybox AS base
RUN echo base > /base
FROM base AS mid
ENV STAGE=mid
RUN echo mid > /mid
CMD ["mid"]
FROM mid AS last
RUN exit 3
`,
			want: wantConfig{
				Env: []string{"PATH", "STAGE=mid"},
				Cmd: []string{"mid"},
			},
		},
		{
			name: "unicode-names",
			text: `FROM busybox
COPY . /ctx/
COPY ["ü ñ.txt", "/uni/"]
COPY 日本* /jp/
RUN mkdir /run-made && touch "/run-made/é" "/run-made/$(printf 'bad\377name')"
ENV Ü=x
`,
			want: wantConfig{
				Env: []string{"PATH", "Ü=x"},
				Cmd: []string{"sh"},
			},
		},
		{
			name: "user-forms",
			text: `FROM busybox
RUN adduser -D -u 1500 app && addgroup -g 1600 extra && addgroup app extra
USER app
RUN id -G > /tmp/g1
USER app:extra
RUN id -G > /tmp/g2
USER 1500
RUN id -G > /tmp/g3; echo $HOME > /tmp/h3
USER 4242
RUN id -u > /tmp/u4; id -g >> /tmp/u4; id -G >> /tmp/u4; echo $HOME > /tmp/h4
`,
			want: wantConfig{
				Env:  []string{"PATH"},
				Cmd:  []string{"sh"},
				User: "4242",
			},
		},
		{
			name: "volume",
			text: `FROM busybox
RUN mkdir /v && echo before > /v/before
VOLUME /v
RUN echo after > /v/after
COPY f /v/copied
VOLUME ["/v2", "/v three"]
VOLUME /v4 /v5
RUN mkdir -p /v4 && echo x > /v4/x
`,
			want: wantConfig{
				Env:     []string{"PATH"},
				Cmd:     []string{"sh"},
				Volumes: []string{"/v", "/v three", "/v2", "/v4", "/v5"},
			},
		},
		{
			name: "workdir-user",
			text: `FROM busybox
ENV BASE=/srv
RUN adduser -D -u 1500 app
USER app
WORKDIR /made/by/workdir
RUN pwd > /tmp/pwd1; id -u > /tmp/id1; touch mine 2>/tmp/err || echo denied > /tmp/denied; rm -f /tmp/err
WORKDIR rel/
WORKDIR $BASE/app/../x/
COPY f .
RUN pwd > /tmp/pwd2; echo $HOME > /tmp/home
USER 1234:4321
WORKDIR /num
RUN id -u > /tmp/id2; id -g >> /tmp/id2; echo $HOME >> /tmp/id2
USER root
RUN echo $HOME > /tmp/home-root
USER app:users
`,
			want: wantConfig{
				Env:        []string{"PATH", "BASE=/srv"},
				Cmd:        []string{"sh"},
				WorkingDir: "/num",
				User:       "app:users",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			img := walk(t, tc.text, tc.target, tc.args).image
			if d := cmp.Diff(tc.want, configOf(img), cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
		})
	}
}
