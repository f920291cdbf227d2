package cli

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// parse returns the build of a command line, with an environment of the form NAME=VALUE. The context is the flag-free
// argument, if there is one.
func parse(t *testing.T, args []string, env ...string) (*spec.Build, error) {
	t.Helper()
	return parseOn(t, testHost(env...), args)
}

// parseOn is parse on a machine.
func parseOn(t *testing.T, h *Host, args []string) (*spec.Build, error) {
	t.Helper()
	var f BuildFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.Parse(fs.Args(), h)
}

// mustParse is parse of a command line without errors.
func mustParse(t *testing.T, args []string, env ...string) *spec.Build {
	t.Helper()
	b, err := parse(t, args, env...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testHost(env ...string) *Host {
	return &Host{
		Env:       environment(env...),
		Environ:   env,
		Platform:  ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Version:   "1.2",
		HardLimit: func(string) (uint64, error) { return math.MaxUint64, nil },
	}
}

func environment(pairs ...string) spec.Lookup {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if key, value, _ := strings.Cut(p, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

func TestBuild(t *testing.T) {
	b := mustParse(t, []string{
		"-t", "app", "-t", "example.org/x:1", "--label", "a=b=c", "--label", "empty", "--annotation", "k=v",
		"--add-host", "db:10.0.0.5", "--add-host", "six:[::1]", "--dns", "192.0.2.1", "--network", "host", "--no-cache",
		"--timestamp", "0", "--layers=false", "dir",
	}, "SOURCE_DATE_EPOCH=7")

	if diff := cmp.Diff([]string{"localhost/app:latest", "example.org/x:1"}, b.Image.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]spec.Label{{Key: "a", Value: "b=c"}, {Key: "empty"}}, b.Image.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"k": "v"}, b.Image.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}

	var hosts []string
	for _, h := range b.Network.Hosts {
		hosts = append(hosts, h.Name+" "+h.Addr.String())
	}
	if diff := cmp.Diff([]string{"db 10.0.0.5", "six ::1"}, hosts); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if b.Input.Context != "dir" || b.Network.Mode != spec.NetworkHost || !b.Cache.Off || !b.Cache.OneLayer || len(b.Network.DNS) != 1 {
		t.Errorf("build: %+v", b)
	}
	c := b.Image.Time
	if c.Epoch == nil || !c.Epoch.Equal(time.Unix(0, 0)) || c.Files != spec.SetTimes {
		t.Errorf("clock %+v: --timestamp wins over the environment", c)
	}
	if b := mustParse(t, []string{"--squash-all"}); !b.Cache.Squash { // podman's name of --squash
		t.Error("--squash-all has no effect")
	}
}

func TestDefaults(t *testing.T) {
	b := mustParse(t, nil, "BUILDAH_FORMAT=docker", "SOURCE_DATE_EPOCH=7")
	if b.Input.Context != "." || b.Image.Format != "docker" || b.Network.Mode != spec.NetworkHost || b.Cache.OneLayer || b.Cache.Off {
		t.Errorf("build: %+v", b)
	}
	c := b.Image.Time
	if c.Epoch == nil || c.Epoch.Unix() != 7 || c.Files != spec.KeepTimes {
		t.Errorf("clock %+v", c)
	}
	if b.Arguments.Epoch != "7" || !b.Arguments.Proxies || b.Plan.AllStages || b.Output.Progress != "auto" || b.Call.Describes() {
		t.Errorf("build: %+v", b)
	}
}

// TestSubjects parses a command line of each subject, and compares the part of the build that the flags set.
func TestSubjects(t *testing.T) {
	off := false
	for _, tc := range []struct {
		args string
		env  []string
		got  func(b *spec.Build) any
		want any
	}{
		{
			"-f - --ignorefile i", nil,
			func(b *spec.Build) any { return b.Input },
			spec.Input{Context: ".", Dockerfiles: []string{"-"}, IgnoreFile: spec.File{Path: "i", From: "--ignorefile"}},
		},
		{
			"--build-arg A=1 --build-arg-file f --http-proxy=false --source-date-epoch 5", nil,
			func(b *spec.Build) any { return b.Arguments },
			spec.Arguments{List: []string{"A=1"}, Files: []spec.File{{Path: "f", From: "--build-arg-file"}}, Epoch: "5"},
		},
		{
			"--build-context a=./a --build-context b=docker-image://alpine", nil,
			func(b *spec.Build) any { return b.Plan.Contexts },
			map[string]string{"a": "./a", "b": "docker-image://alpine"},
		},
		{
			"--allow security.insecure --allow network.host --allow fs.read=/a --allow fs.read=* --no-remote", nil,
			func(b *spec.Build) any { return b.Allow },
			spec.Allow{Insecure: true, HostNetwork: true, NoRemote: true, Read: []string{"/a", "*"}, ReadFrom: "--allow fs.read="},
		},
		{
			"--pull --authfile a --cert-dir c --creds u:p --tls-verify=false --retry 0 --retry-delay 2s", nil,
			func(b *spec.Build) any { return b.Pull },
			spec.Pull{Policy: "always", Access: spec.Access{
				AuthFile: spec.File{Path: "a", From: "--authfile"}, CertDir: "c", Creds: "u:p", TLSVerify: &off, Retries: -1, RetryDelay: 2 * time.Second,
			}},
		},
		{
			"--secret id=a,src=f --secret id=b,env=V --secret id=c --secret type=env,id=d --secret type=file,id=e", nil,
			func(b *spec.Build) any { return b.Run.Secrets },
			[]spec.Secret{
				{ID: "a", File: "f", From: `--secret "id=a,src=f"`},
				{ID: "b", Variable: "V", From: `--secret "id=b,env=V"`},
				{ID: "c", Guess: true, From: `--secret "id=c"`},
				{ID: "d", Variable: "d", From: `--secret "type=env,id=d"`},
				{ID: "e", File: "e", From: `--secret "type=file,id=e"`},
			},
		},
		{
			"--ssh default --ssh k=a,b",
			[]string{"SSH_AUTH_SOCK=/s"},
			func(b *spec.Build) any { return b.Run.Agents },
			[]spec.Agent{
				{ID: "default", Paths: []string{"/s"}, From: `--ssh "default"`},
				{ID: "k", Paths: []string{"a", "b"}, From: `--ssh "k=a,b"`},
			},
		},
		{
			"--network none --no-hosts --no-hostname", nil,
			func(b *spec.Build) any { return b.Network },
			spec.Network{Mode: "none", From: "--network none", NoHosts: true, NoHostname: true},
		},
		{
			"--dns none", nil,
			func(b *spec.Build) any { return b.Network.NoResolver },
			true,
		},
		{
			"--timeout 90 --step-timeout 1m --no-output-timeout 1s", nil,
			func(b *spec.Build) any { return b.Time },
			spec.Time{Build: 90 * time.Second, BuildFrom: "--timeout", Step: time.Minute, Silence: time.Second},
		},
		{
			"--cache-ttl 1h --jobs 2 --no-cache-filter a,b",
			[]string{"BUILDAH_LAYERS=false"},
			func(b *spec.Build) any { return b.Cache },
			spec.Cache{Uncached: []string{"a", "b"}, UncachedFrom: "--no-cache-filter", TTL: time.Hour, OneLayer: true, Jobs: 2},
		},
		{
			"--cache-ttl 0", nil,
			func(b *spec.Build) any { return b.Cache },
			spec.Cache{Off: true, UncachedFrom: "--no-cache-filter"},
		},
		{
			"--call lint,format=json,ignorestatus=true", nil,
			func(b *spec.Build) any { return b.Call },
			spec.Call{Method: "check", JSON: true, IgnoreStatus: true},
		},
		{
			"--platform linux/arm64 --skip-unused-stages=false --target x --from alpine", nil,
			func(b *spec.Build) any {
				return []any{b.Plan.Platform.Architecture, b.Plan.PlatformGiven, b.Plan.AllStages, b.Plan.Target, b.Plan.From}
			},
			[]any{"arm64", true, true, "x", "alpine"},
		},
		{
			"--iidfile i --iidfile-raw r --metadata-file m", nil,
			func(b *spec.Build) any { return b.Result.Files() },
			[]spec.File{{Path: "i", From: "--iidfile"}, {Path: "r", From: "--iidfile-raw"}, {Path: "m", From: "--metadata-file"}},
		},
		{
			"--compression-format zstd --compression-level 3 --force-compression=false -t oci:./x", nil,
			func(b *spec.Build) any {
				return []any{b.Result.Compression.Format, *b.Result.Compression.Level, b.Result.Compression.Any}
			},
			[]any{"zstd", 3, true},
		},
		{
			"--quiet --log-rusage --rusage-logfile u", nil,
			func(b *spec.Build) any { return []any{b.Output, b.Pull.Quiet} },
			[]any{spec.Output{Progress: "auto", Quiet: true, Usage: true, UsageFile: spec.File{Path: "u", From: "--rusage-logfile"}, LogFile: spec.File{From: "--logfile"}}, true},
		},
	} {
		t.Run(tc.args, func(t *testing.T) {
			b := mustParse(t, strings.Fields(tc.args), tc.env...)
			if diff := cmp.Diff(tc.want, tc.got(b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestResults(t *testing.T) {
	for _, tc := range []struct {
		args    string
		names   []string
		pushes  []string
		exports []spec.Export
		noImage bool
	}{
		{"", nil, nil, nil, false},
		{"-t app -t docker://r.example/a:1 -t dir:/x", []string{"localhost/app:latest"}, []string{"docker://r.example/a:1", "dir:/x"}, nil, false},
		{"-t containers-storage:a -t a", []string{"localhost/a:latest"}, nil, nil, false},
		{"-t docker:foo -t oci:v1 -t dir:./x", []string{"localhost/docker:foo", "localhost/oci:v1"}, []string{"dir:./x"}, nil, false},
		{"-o type=image,name=docker:foo --build-context a=docker-image://docker:cli", []string{"localhost/docker:foo"}, nil, []spec.Export{{Kind: "image", Names: []string{"docker:foo"}}}, false},
		{"-t r.example/a --push", []string{"r.example/a:latest"}, []string{"docker://r.example/a:latest"}, nil, false},
		{"-o out", nil, nil, []spec.Export{{Kind: "local", Dest: "out"}}, true},
		{"-o out --load", nil, nil, []spec.Export{{Kind: "local", Dest: "out"}}, false},
		{"-o out --iidfile i", nil, nil, []spec.Export{{Kind: "local", Dest: "out"}}, false},
		{"-o -", nil, nil, []spec.Export{{Kind: "tar", Dest: "-"}}, true},
		{"-o type=tar", nil, nil, []spec.Export{{Kind: "tar", Dest: "-"}}, true},
		{"-o type=local,dest=a,mode=copy -o type=tar,dest=b -t c", []string{"localhost/c:latest"}, nil, []spec.Export{{Kind: "local", Dest: "a"}, {Kind: "tar", Dest: "b"}}, false},
		{"-o type=cacheonly", nil, nil, []spec.Export{{Kind: "cacheonly"}}, true},
		{"-o type=oci,dest=d,tar=false", nil, nil, []spec.Export{{Kind: "oci", Dest: "d", IsDir: true}}, false},
		{"-o type=docker", nil, nil, []spec.Export{{Kind: "docker"}}, false},
		{`-o type=image,"name=r.example/a,r.example/b",push=true`, []string{"r.example/a:latest", "r.example/b:latest"}, []string{"docker://r.example/a:latest", "docker://r.example/b:latest"}, []spec.Export{{Kind: "image", Names: []string{"r.example/a", "r.example/b"}, Push: true}}, false},
		{"-o type=registry -t r.example/a", []string{"r.example/a:latest"}, []string{"docker://r.example/a:latest"}, []spec.Export{{Kind: "image", Push: true}}, false},
	} {
		t.Run(tc.args, func(t *testing.T) {
			b := mustParse(t, strings.Fields(tc.args))
			if diff := cmp.Diff(tc.names, b.Image.Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.pushes, b.Result.Pushes); diff != "" {
				t.Errorf("pushes (-want +got):\n%s", diff)
			}
			for i := range tc.exports {
				tc.exports[i].From = "--output"
			}
			if diff := cmp.Diff(tc.exports, b.Result.Exports); diff != "" {
				t.Errorf("exports (-want +got):\n%s", diff)
			}
			if b.Result.NoImage != tc.noImage {
				t.Errorf("no image: %v, want %v", b.Result.NoImage, tc.noImage)
			}
		})
	}
}

// TestExportLocation: an export that holds an image is named by its transport.
func TestExportLocation(t *testing.T) {
	for text, want := range map[string]string{
		"type=oci,dest=a":             "oci-archive:./a",
		"type=oci,dest=/a,tar=false":  "oci:/a",
		"type=oci":                    "oci-archive:-",
		"type=docker,dest=a.tar":      "docker-archive:./a.tar",
		"type=docker":                 "",
		"type=local,dest=a":           "",
		"type=tar,dest=a":             "",
		"type=image,name=a,push=true": "",
	} {
		e, err := parseExport(text)
		if err != nil || e.Location() != want {
			t.Errorf("%s: %q, %v; want %q", text, e.Location(), err, want)
		}
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
		{"/etc", "", false},
		{"/etc:x", "", false},
		{":/x", "", false},
		{"/etc:/x:U", "", false},
	} {
		t.Run(tc.text, func(t *testing.T) {
			v, _, err := parseVolume(tc.text, false)
			if tc.want == "" {
				if err == nil {
					t.Errorf("accepted as %+v", v)
				}
				return
			}
			if err != nil || v.Path != "/etc" || v.Dest != tc.want || v.ReadOnly != tc.readOnly {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}

	if _, warnings, err := parseVolume("/etc:/x:Z", true); err != nil || len(warnings) != 1 {
		t.Errorf("with SELinux: %q, %v", warnings, err)
	}
}

// TestSecrets: no error holds a part of a value.
func TestSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "want id=ID",
		"src=f":                "an id is needed",
		"id=a,type=x":          "neither file nor env",
		"id=a,src=f,env=V":     "contradict",
		"id=a,type=file,env=V": "env is for type=env",
		"id=a,mode=7":          "unknown key",
		"id":                   "is not KEY=VALUE",
	} {
		if _, err := parseSecrets([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := parseSecrets([]string{"id=a", "id=a"}); err == nil {
		t.Error("two secrets with one ID")
	}
}

// TestStdoutTerminal: an archive does not go to a terminal.
func TestStdoutTerminal(t *testing.T) {
	h := testHost()
	h.StdoutTerminal = true
	if _, err := parseOn(t, h, []string{"-o", "-"}); err == nil || !strings.Contains(err.Error(), "is a terminal") {
		t.Error(err)
	}
	if _, err := parseOn(t, h, []string{"-o", "dir"}); err != nil {
		t.Error(err)
	}
}

func TestStdinOnce(t *testing.T) {
	for _, args := range []string{"--stdin -", "--stdin -f -", "-f - -"} {
		if _, err := parse(t, strings.Fields(args)); err == nil || !strings.Contains(err.Error(), "standard input") {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestRefuses(t *testing.T) {
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
			_, err := parse(t, strings.Fields(tc.args))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, tc.want)
			}
		})
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
