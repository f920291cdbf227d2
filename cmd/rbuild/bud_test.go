package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// parse gives the flags that a command line sets.
func parse(t *testing.T, args ...string) *budFlags {
	t.Helper()
	cmd := newBudCmd(&app{})
	var f budFlags
	f.limits.conf = &f.conf
	cmd.ResetFlags()
	for _, g := range f.groups() {
		g.register(cmd.Flags())
	}
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return &f
}

func environment(pairs ...string) lookup {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if key, value, _ := strings.Cut(p, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

func TestBudOptions(t *testing.T) {
	f := parse(t, "-t", "app", "-t", "example.org/x:1", "--label", "a=b=c", "--label", "empty", "--annotation", "k=v",
		"--add-host", "db:10.0.0.5", "--add-host", "six:[::1]", "--dns", "192.0.2.1", "--network", "host", "--no-cache",
		"--timestamp", "0", "--layers=false")
	o, err := f.options(environment("SOURCE_DATE_EPOCH=7"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"localhost/app:latest", "example.org/x:1"}, o.Image.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]builder.Label{{Key: "a", Value: "b=c"}, {Key: "empty"}}, o.Image.Labels.Set); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"k": "v"}, o.Image.Annotations.Set); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	var hosts []string
	for _, h := range o.Run.Etc.Hosts {
		hosts = append(hosts, h.Name+" "+h.Addr.String())
	}
	if diff := cmp.Diff([]string{"db 10.0.0.5", "six ::1"}, hosts); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if o.Run.Network.Mode != runner.Host || !o.Cache.Refresh || !o.Layers.OnePerStage || len(o.Run.Etc.DNS) != 1 {
		t.Errorf("options: %+v", o)
	}
	if o.Layers.Epoch == nil || !o.Layers.Epoch.Equal(time.Unix(0, 0)) || o.Layers.FileTimes != builder.SetTimes {
		t.Errorf("epoch %v, of files %v: --timestamp wins over the environment", o.Layers.Epoch, o.Layers.FileTimes)
	}
	if o, err = parse(t, "--squash-all").options(environment()); err != nil || !o.Layers.Squash { // podman's name of --squash
		t.Errorf("--squash-all: %v, %v", o.Layers.Squash, err)
	}
}

func TestBudDefaults(t *testing.T) {
	o, err := parse(t).options(environment("BUILDAH_FORMAT=docker", "SOURCE_DATE_EPOCH=7"))
	if err != nil {
		t.Fatal(err)
	}
	if o.Image.Format != commit.Docker || o.Run.Network.Mode != runner.Host || o.Layers.OnePerStage || o.Cache.Refresh {
		t.Errorf("options: %+v", o)
	}
	if o.Layers.Epoch == nil || o.Layers.Epoch.Unix() != 7 || o.Layers.FileTimes != builder.KeepTimes {
		t.Errorf("epoch %v, of files %v", o.Layers.Epoch, o.Layers.FileTimes)
	}
}

func TestBudRefuses(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--network bridge", "choose host, none or private"},
		{"--add-host db", "NAME:ADDRESS"},
		{"--add-host db:here", "NAME:ADDRESS"},
		{"--dns resolver", "--dns"},
		{"--format v2s1", "choose oci or docker"},
		{"--format docker --annotation a=b", "no annotations"},
		{"--annotation a", "KEY=VALUE"},
		{"--label =b", "KEY=VALUE"},
		{"--timestamp now", "seconds since 1970"},
		{"--timestamp -1", "seconds since 1970"},
		{"--timestamp 1 --source-date-epoch 2", "contradict"},
		{"--pull=sometimes", "--pull"},
		{"--build-arg =x", "NAME=VALUE"},
		{"--platform linux/amd64,linux/arm64", "one platform at a time"},
		{"--platform linux/amd64 --platform linux/arm64", "one platform at a time"},
		{"--platform a/b/c/d", "OS/ARCH"},
		{"--platform linux/amd64 --arch arm64", "give it alone"},
		{"--arch a/b/c", "no platform"},
		{"--allow everything", "security.insecure, network.host or fs.read=PATH"},
		{"--allow fs.read=", "fs.read=PATH"},
		{"--build-context x", "NAME=VALUE"},
		{"--build-context x=", "NAME=VALUE"},
		{"--build-context =x", "needs a name"},
		{"--build-context scratch=x", "no name for a context"},
		{"--build-context Context=x", "no name for a context"},
		{"--build-context x::a/b/c/d=x", "os/arch"},
		{"--build-context x=a --build-context docker.io/library/X:latest=b", "another of this name"},
		{"--build-context x=ftp://a", "unknown kind ftp://"},
		{"--build-context x=docker-image://", "nothing is named"},
		{"--build-context x=docker-image://oci:/a", "name of an image"},
		{"-t oci:/x -t sif:/y", "transport sif"},
		{"-t docker://UPPER", "--tag"},
		{"--push", "has no name"},
		{"-o type=registry", "has no name"},
		{"-o type=local", "dest=DIR"},
		{"-o type=local,dest=-", "dest=DIR"},
		{"-o dest=x", "type is missing"},
		{"-o type=ocii,dest=x", "type=ocii"},
		{"-o type=local,dest=x,mode=delete", "mode=delete"},
		{"-o type=local,dest=x,platform-split=true", "platform-split"},
		{"-o type=oci,tar=false", "dest=DIR"},
		{"-o type=oci,dest=a:b", "colon"},
		{"-o type=image,dest=a", "dest is for"},
		{"-o type=tar,name=a", "name is for"},
		{`-o type=docker,dest=x,"name=a,b"`, "one name"},
		{"-o type=image,name=oci:/x", "name of an image"},
		{"-t docker-daemon:x:1", "transport docker-daemon: is not supported"},
		{"--build-context a=docker-image://oci:/x", "name of an image"},
		{"-o type=oci,compression=zstd", "use --compression-format"},
		{"-o type=tar,dest=x,push=true", "push is for"},
		{"-o type=image,push=maybe", "true or false"},
		{"-o - -o type=tar", "only one"},
		{"-o type=tar,dest=a,destination=b", "dest is given twice"},
		{"--output=", "a destination is missing"},
		{"--compression-level 10", "choose 0 to 9"},
		{"--compression-format zstd --compression-level 21", "choose 0 to 20"},
		{"--compression-format lz4", "choose gzip"},
		{"--force-compression", "needs --compression-format"},
		{"--retry -1", "--retry"},
		{"--jobs -1", "--jobs"},
		{"--stage-labels", "--stage-labels needs --save-stages"},
		{"--layer-label =x", "--layer-label"},
		{"--os-feature -", "--os-feature"},
		{"--logsplit", "--logsplit needs --logfile"},
		{"--memory-swap 1g", "--memory-swap needs --memory"},
		{"--runtime runsc", "--runtime=runsc is not supported"},
		{"--runtime /usr/bin/kata-runtime", "runc and crun"},
		{"--cgroup-manager none", "choose systemd, cgroupfs or disabled"},
		{"--provenance=mode=max", "no attestations"},
		{"--rm=perhaps", "true or false"},
		{"-D=false", "--disable-compression=false"},
		{"--created-annotation --format docker", "no annotations"},
		{"-t UPPER", "--tag"},
		{"--rewrite-timestamp", "--source-date-epoch"},
		{"--progress fancy", "choose auto"},
		{"-f - -f a -f -", "one standard input"},
		{"-f Containerfile.in", "C preprocessor"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			_, err := parse(t, strings.Fields(tc.args)...).options(environment())
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, tc.want)
			}
		})
	}
}

func TestResults(t *testing.T) {
	for _, tc := range []struct {
		args    string
		names   []string
		pushes  []string
		exports []export
		noImage bool
	}{
		{"", nil, nil, nil, false},
		{"-t app -t docker://r.example/a:1 -t dir:/x", []string{"localhost/app:latest"}, []string{"docker://r.example/a:1", "dir:/x"}, nil, false},
		{"-t containers-storage:a -t a", []string{"localhost/a:latest"}, nil, nil, false},
		{"-t docker:foo -t oci:v1 -t dir:./x", []string{"localhost/docker:foo", "localhost/oci:v1"}, []string{"dir:./x"}, nil, false},
		{"-o type=image,name=docker:foo --build-context a=docker-image://docker:cli", []string{"localhost/docker:foo"}, nil, []export{{kind: "image", names: []string{"docker:foo"}}}, false},
		{"-t r.example/a --push", []string{"r.example/a:latest"}, []string{"docker://r.example/a:latest"}, nil, false},
		{"-o out", nil, nil, []export{{kind: "local", dest: "out"}}, true},
		{"-o out --load", nil, nil, []export{{kind: "local", dest: "out"}}, false},
		{"-o out --iidfile i", nil, nil, []export{{kind: "local", dest: "out"}}, false},
		{"-o -", nil, nil, []export{{kind: "tar", dest: "-"}}, true},
		{"-o type=tar", nil, nil, []export{{kind: "tar", dest: "-"}}, true},
		{"-o type=local,dest=a,mode=copy -o type=tar,dest=b -t c", []string{"localhost/c:latest"}, nil, []export{{kind: "local", dest: "a"}, {kind: "tar", dest: "b"}}, false},
		{"-o type=cacheonly", nil, nil, []export{{kind: "cacheonly"}}, true},
		{"-o type=oci,dest=d,tar=false", nil, nil, []export{{kind: "oci", dest: "d", isDir: true}}, false},
		{"-o type=docker", nil, nil, []export{{kind: "docker"}}, false},
		{`-o type=image,"name=r.example/a,r.example/b",push=true`, []string{"r.example/a:latest", "r.example/b:latest"}, []string{"docker://r.example/a:latest", "docker://r.example/b:latest"}, []export{{kind: "image", names: []string{"r.example/a", "r.example/b"}, push: true}}, false},
		{"-o type=registry -t r.example/a", []string{"r.example/a:latest"}, []string{"docker://r.example/a:latest"}, []export{{kind: "image", push: true}}, false},
	} {
		t.Run(tc.args, func(t *testing.T) {
			f := parse(t, strings.Fields(tc.args)...)
			o, err := f.options(environment())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.names, o.Image.Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.pushes, f.result.pushes); diff != "" {
				t.Errorf("pushes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.exports, f.result.exports, cmp.AllowUnexported(export{})); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			if o.Image.None != tc.noImage {
				t.Errorf("no image: %v, want %v", o.Image.None, tc.noImage)
			}
		})
	}
}

// TestPeerFlags wants each flag that changes nothing to be accepted, in the form in which scripts have it.
func TestPeerFlags(t *testing.T) {
	args := "--rm --rm=false --force-rm --compress -D --disable-compression --disable-content-trust --disable-content-trust=false " +
		"--builder default --provenance=false --sbom=false --identity-label=false --inherit-annotations=false --loglevel 3 " +
		"--cni-config-dir /x --cni-plugin-path /y --runtime crun --runtime /usr/bin/runc"
	if _, err := parse(t, strings.Fields(args)...).options(environment()); err != nil {
		t.Error(err)
	}
}

func TestVolumes(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		readOnly   bool
	}{
		{"/etc:/x", "/x", false},
		{"/etc:/x/:ro", "/x", true},
		{"/etc:/x:rw,Z", "/x", false},
		{"/etc:/x:ro,rbind,rprivate,nocopy,exec,z", "/x", true},
		{"/etc:/x:rslave", "", false},
		{"/etc:/x:dev", "", false},
		{"/etc:/x:upperdir=/y", "", false},
		{"/etc/passwd:/x:O", "", false},
		{"/etc", "", false},
		{"/etc:x", "", false},
		{":/x", "", false},
		{"/etc:/x:U", "", false},
		{"/no/such:/x", "", false},
	} {
		t.Run(tc.text, func(t *testing.T) {
			got, err := parseVolumes([]string{tc.text})
			if tc.want == "" {
				if err == nil {
					t.Errorf("accepted as %+v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got[0].Source.Close()
			if got[0].Dest != tc.want || got[0].ReadOnly != tc.readOnly {
				t.Errorf("%+v", got[0])
			}
		})
	}
}

func TestBuildArgs(t *testing.T) {
	got := buildArgs{}
	err := got.setAll([]string{"A=0", "A=1", "B", "C=0", "C", "D="}, environment("B=from the environment"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(buildArgs{"A": "1", "B": "from the environment", "D": ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEnvVars(t *testing.T) {
	environ := []string{"A=1", "AB=2", "C=x=y", "D="}
	for _, tc := range []struct {
		flag string
		want []plan.EnvVar
	}{
		{"A=$B=c", []plan.EnvVar{{Key: "A", Value: "$B=c"}}},
		{"A=", []plan.EnvVar{{Key: "A"}}},
		{"A", []plan.EnvVar{{Key: "A", Value: "1", Literal: true}}},
		{"C", []plan.EnvVar{{Key: "C", Value: "x=y", Literal: true}}},
		{"NONE", nil},
		{"A*", []plan.EnvVar{{Key: "A", Value: "1", Literal: true}, {Key: "AB", Value: "2", Literal: true}}},
	} {
		got, err := envVars([]string{tc.flag}, environ)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.flag, diff)
		}
	}

	if got, err := envVars([]string{"*"}, environ); err != nil || len(got) != len(environ) {
		t.Errorf("all: %+v, %v", got, err)
	}
}

func TestArgFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "args")
	if err := os.WriteFile(path, []byte("# no=1\nA=1\r\n\nB\nA=2 # part of it\nC=3\nC"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := buildArgs{}
	if err := got.readFile(path, environment("B=b")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(buildArgs{"A": "2 # part of it", "B": "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefuseFlag(t *testing.T) {
	cmd := newRootCmd(&app{})
	for flag, want := range map[string]string{"--cache-from": "not supported", "--no-such": "unknown flag"} {
		cmd.SetArgs([]string{budName, flag, "1"})
		cmd.SetErr(&bytes.Buffer{})
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestLocate(t *testing.T) {
	in := &input{texts: []instructions.Text{
		{Name: "Other", Data: []byte("FROM x\nRUN y\n")}, {Name: "Dockerfile", Data: []byte("FROM a\r\nRUN b \\\n  c\nCMD d\n")},
	}}
	err := in.locate(&builder.StepError{File: "Dockerfile", Line: 2, EndLine: 3, Step: "RUN b c", Err: errors.New("no")})
	place, ok := errors.AsType[*sourceError](err)
	if !ok {
		t.Fatal(err)
	}
	var out bytes.Buffer
	place.print(&out)
	if diff := cmp.Diff("     2 | RUN b \\\n     3 |   c\n", out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := err.Error(); got != "Dockerfile:2: RUN b c: no" {
		t.Errorf("%q", got)
	}
}

func TestRunCode(t *testing.T) {
	err := runCode(&builder.StepError{Err: &runner.ExitError{Code: 7}})
	if e, ok := errors.AsType[*exitError](err); !ok || e.code != 7 {
		t.Errorf("%v", err)
	}
	plain := errors.New("other")
	if err := runCode(plain); !errors.Is(err, plain) {
		t.Errorf("%v", err)
	}
}
