package cli

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.podman.io/storage/pkg/configfile"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// refusal is a command line with a part of its error.
type refusal struct{ args, want string }

// wantRefused wants each command line to be refused with one line.
func wantRefused(t *testing.T, list []refusal, env ...string) {
	t.Helper()
	for _, tc := range list {
		_, err := parse(t, strings.Fields(tc.args), env...)
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want one line with %q", tc.args, err, tc.want)
		}
	}
}

func TestNetwork(t *testing.T) {
	wantRefused(t, []refusal{
		{"--network host --net none", "--net is the same as --network"},
		{"--no-hosts --add-host a:1.2.3.4", "contradict"},
		{"--network private --add-host a:host-gateway", "the host cannot be reached"},
		{"--network none --dns 1.2.3.4", "--dns: with --network none there is nobody to ask"},
		{"--dns none --dns-search a", "--dns-search and --dns none contradict"},
		{"--dns-option a#b", `--dns-option "a#b": want one word`},
	})

	n := mustParse(t, strings.Fields("--net host --add-host a;b:host-gateway --dns-search . --dns-option ndots:2")).Network
	var hosts []string
	for _, h := range n.Hosts {
		hosts = append(hosts, h.Name+"="+h.Addr.String())
	}
	if diff := cmp.Diff([]string{"a=127.0.0.1", "b=127.0.0.1"}, hosts); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{".", "ndots:2"}, append(n.Search, n.ResolverOptions...)); diff != "" {
		t.Errorf("resolver (-want +got):\n%s", diff)
	}
}

func TestSecurityOptions(t *testing.T) {
	got := mustParse(t, strings.Fields(
		"--security-opt no-new-privileges --security-opt mask=/a/:/b --security-opt apparmor=p --security-opt seccomp:f.json --security-opt label=disable",
	)).Security
	want := spec.Security{
		Security:    runner.Security{NoNewPrivileges: true, Mask: []string{"/a", "/b"}, AppArmor: "p"},
		SeccompFile: spec.File{Path: "f.json", From: "--security-opt seccomp=f.json"},
		From: spec.SecurityFrom{
			AppArmor: "--security-opt apparmor=p",
			UIDs:     "--userns-uid-map", GIDs: "--userns-gid-map", HostIDs: "--userns=host",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	unconfined := mustParse(t, strings.Fields(
		"--security-opt seccomp=f --security-opt seccomp=unconfined --security-opt apparmor=a --security-opt apparmor=unconfined --security-opt no-new-privileges=false",
	)).Security
	if !unconfined.NoSeccomp || unconfined.SeccompFile.Path != "" || unconfined.AppArmor != "" || unconfined.NoNewPrivileges {
		t.Errorf("the last option of a name counts: %+v", unconfined)
	}

	all := mustParse(t, strings.Fields("--security-opt systempaths=unconfined")).Security
	if len(all.Unmask) == 0 || all.From.Unmask == "" {
		t.Errorf("unmasked paths: %q", all.Unmask)
	}

	wantRefused(t, []refusal{
		{"--security-opt seccomp", "want NAME=VALUE"},
		{"--security-opt no-new-privileges=perhaps", "want true or false"},
		{"--security-opt mask=a", "not an absolute path"},
		{"--security-opt mask=/", "not an absolute path"},
		{"--security-opt unmask=/etc", "is none of what is hidden"},
		{"--security-opt other=x", "choose seccomp"},
		{"--security-opt apparmor=" + strings.Repeat("x", maxProfileName+1), "no name of a profile"},
		{"--cap-add NO_SUCH", "--cap-add and --cap-drop"},
		{"--group-add keep-groups,audio", "no other group"},
		{"--group-add 4294967295", "--group-add"},
		{"--userns keep-id", "other ids than the files"},
		{"--userns vm", "choose private or host"},
		{"--userns host --userns-uid-map 0:0:1", "has no maps"},
		{"--pid host", "could signal the builder"},
		{"--ipc shareable", "private is the only choice"},
		{"--cgroupns other", "choose host or private"},
	})
}

// TestSELinux: on a machine with SELinux, labels other than rbuild's own are refused.
func TestSELinux(t *testing.T) {
	h := testHost()
	args := []string{"--security-opt", "label=type:x"}
	if _, err := parseOn(t, h, args); err != nil {
		t.Errorf("without SELinux: %v", err)
	}
	h.SELinux = true
	if _, err := parseOn(t, h, args); err == nil || !strings.Contains(err.Error(), "SELinux label") {
		t.Errorf("with SELinux: %v", err)
	}
	b, err := parseOn(t, h, []string{"-v", "/a:/b:z"})
	if err != nil || len(b.Run.Warnings) != 1 {
		t.Errorf("--volume with z: %+v, %v", b, err)
	}
}

func TestSecurityOfRun(t *testing.T) {
	s := mustParse(t, strings.Fields("--group-add audio --group-add 44 --userns-uid-map 0:0:10 --cgroupns host --device /dev/fuse:/x")).Security
	ids := []sandbox.IDRange{{First: 0, Count: 10}}
	if diff := cmp.Diff([]any{[]string{"audio", "44"}, ids, ids, sandbox.CgroupHost}, []any{s.Groups, s.UIDs, s.GIDs, s.CgroupNames}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []spec.Device{{Path: "/dev/fuse", Dest: "/x", From: `--device "/dev/fuse:/x"`}}
	if diff := cmp.Diff(want, s.Devices); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s := mustParse(t, []string{"--group-add", "keep-groups"}).Security; !s.KeepGroups || s.Groups != nil {
		t.Errorf("keep-groups: %+v", s)
	}
}

// TestUlimits: flags win over containers.conf, and a limit that the kernel would refuse is refused.
func TestUlimits(t *testing.T) {
	h := testHost()
	h.Config.Containers.DefaultUlimits = configfile.NewSlice([]string{"nofile=1:2", "core=0"})
	h.Config.Containers.ShmSize = "1m"
	b, err := parseOn(t, h, strings.Fields("--ulimit nofile=3:4 --ulimit nofile=5:6"))
	if err != nil {
		t.Fatal(err)
	}
	want := []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_NOFILE", Soft: 5, Hard: 6}}
	if diff := cmp.Diff(want, b.Limits.Ulimits); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b.Limits.ShmSize == nil || *b.Limits.ShmSize != 1<<20 {
		t.Errorf("size of /dev/shm: %v", b.Limits.ShmSize)
	}

	h.HardLimit = func(string) (uint64, error) { return 5, nil }
	if _, err := parseOn(t, h, []string{"--ulimit", "nofile=5:6"}); err == nil || !strings.Contains(err.Error(), "the hard limit of 6 is above rbuild's own, 5") {
		t.Error(err)
	}
	h.HardLimit = func(string) (uint64, error) { return math.MaxUint64, errors.New("no such limit") }
	if _, err := parseOn(t, h, []string{"--ulimit", "nofile=5:6"}); err == nil || !strings.Contains(err.Error(), "no such limit") {
		t.Error(err)
	}
	if got := ulimitText(math.MaxUint64); got != "unlimited" {
		t.Errorf("%q", got)
	}
}

// TestConfig: a bad value of containers.conf is an error that names the file and the key.
func TestConfig(t *testing.T) {
	for want, set := range map[string]func(c *Config){
		"containers.conf: default_ulimits: ":      func(c *Config) { c.Containers.DefaultUlimits = configfile.NewSlice([]string{"x"}) },
		"containers.conf: shm_size: ":             func(c *Config) { c.Containers.ShmSize = "x" },
		"containers.conf: default_capabilities: ": func(c *Config) { c.Containers.DefaultCapabilities = configfile.NewSlice([]string{"NO_SUCH"}) },
		"containers.conf: cgroup_conf ":           func(c *Config) { c.Containers.CgroupConf = configfile.NewSlice([]string{"x"}) },
	} {
		h := testHost()
		set(&h.Config)
		if _, err := parseOn(t, h, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	h := testHost()
	h.Config.Containers.SeccompProfile = "/p.json"
	h.Config.Containers.DefaultCapabilities = configfile.NewSlice([]string{"CAP_CHOWN"})
	h.Config.Containers.CgroupNS = "private"
	b, err := parseOn(t, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := b.Security
	if s.SeccompFile.From != "seccomp_profile of containers.conf" || len(s.Capabilities) != 1 || s.CgroupNames != sandbox.CgroupPrivate {
		t.Errorf("%+v", s)
	}
}

func TestCgroupOptions(t *testing.T) {
	h := testHost("DBUS_SESSION_BUS_ADDRESS=unix:path=/bus")
	h.Config.Engine.CgroupManager = "cgroupfs"
	o, err := CgroupOptions(h)
	if diff := cmp.Diff(cgroup.Options{Manager: cgroup.CgroupFS, Bus: "unix:path=/bus"}, o); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestLimitsRefused: limits beyond the kernel's bounds are refused.
func TestLimitsRefused(t *testing.T) {
	wantRefused(t, []refusal{
		{"--memory x", "want a number with b, k, m or g"},
		{"--memory 1k", "want at least 6m"},
		{"--memory 64m --memory-swap 32m", "cannot be less than --memory"},
		{"--memory 64m --memory-swap x", "or -1"},
		{"--cpus 0", "at least 0.01"},
		{"--cpus NaN", "--cpus"},
		{"--cpus 1 --cpu-quota 5000", "--cpus stands for"},
		{"--cpu-period 999", "want 1000 to 1000000"},
		{"--cpu-quota 999", "want at least 1000"},
		{"--cpuset-cpus 3-1", "want numbers and ranges"},
		{"--cpuset-mems a", "want numbers and ranges"},
		{"--pids-limit -2", "--pids-limit -2"},
		{"--limits best", "choose required or best-effort"},
		{"--shm-size -1", "--shm-size"},
	})
}

func TestLimitFlags(t *testing.T) {
	l := mustParse(t, strings.Fields("--memory 64m --cpuset-cpus 0")).Limits
	want := []spec.LimitFlag{{Name: "--memory", Controller: cgroup.Memory}, {Name: "--cpuset-cpus", Controller: cgroup.CPUSet}}
	if diff := cmp.Diff(want, l.Flags); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if l.BestEffort || l.Remedy == "" {
		t.Errorf("%+v", l)
	}
}

func TestImageRefused(t *testing.T) {
	wantRefused(t, []refusal{
		{"--format oci --compression-format zstd", "layers in the store are not compressed"},
		{"--format docker --compression-format zstd -t docker://r.example/a", "use --format oci"},
		{"--call check,format=xml", "want METHOD"},
		{"--call chekc", "did you mean check?"},
		{"--call outline --check", "contradicts the --call"},
		{"--call check,ignorestatus=perhaps", "ignorestatus is true or false"},
		{"--cache-ttl soon", "want a duration"},
		{"--cache-ttl 0 --no-cache=false", "contradict each other"},
		{"--pull --pull-never", "exclude each other"},
		{"--isolation vm", "--isolation \"vm\""},
		{"--mount type=nothing", "--mount"},
		{"--env =x", "--env"},
		{"--ssh =x", "want ID"},
		{"--ssh default", "$SSH_AUTH_SOCK is not set"},
		{"--ssh a=/k --ssh a=/l", "another with this id"},
		{"--file=", "the name is empty"},
	})
	wantRefused(t, []refusal{{"", "BUILDAH_LAYERS=perhaps in the environment"}}, "BUILDAH_LAYERS=perhaps")
	wantRefused(t, []refusal{{"", "BUILDAH_ISOLATION in the environment"}}, "BUILDAH_ISOLATION=vm")
}

func TestPullPolicy(t *testing.T) {
	for args, want := range map[string]transfer.Policy{
		"": transfer.PullMissing, "--pull": transfer.PullAlways, "--pull=true": transfer.PullAlways, "--pull=false": transfer.PullMissing,
		"--pull=newer": transfer.PullNewer, "--pull-always": transfer.PullAlways, "--pull-never": transfer.PullNever,
	} {
		if got := mustParse(t, strings.Fields(args)).Pull.Policy; got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestPlatform(t *testing.T) {
	host := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for args, want := range map[string]string{
		"": "", "--platform local": "linux/amd64/", "--arch arm --variant v7": "linux/arm/v7", "--os windows": "windows/amd64/", "--platform linux/arm/v6": "linux/arm/v6",
	} {
		var f PlatformFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.Register(fs)
		if err := fs.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		p, err := f.Given(host)
		got := ""
		if p.OS != "" {
			got = p.OS + "/" + p.Architecture + "/" + p.Variant
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", args, got, err, want)
		}
	}
}

func TestPullFlags(t *testing.T) {
	for args, want := range map[string]string{
		"--policy sometimes": "--policy", "--retry -1": "--retry", "--platform a,b": "one platform at a time", "--disable-content-trust=perhaps": "want true or false",
	} {
		var f PullFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.Register(fs)
		if err := fs.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Parse(ocispec.Platform{OS: "linux", Architecture: "amd64"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}

	var f PullFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Register(fs)
	if err := fs.Parse(strings.Fields("--arch arm64 --remove-signatures --retry 5")); err != nil {
		t.Fatal(err)
	}
	got, err := f.Parse(ocispec.Platform{OS: "linux", Architecture: "amd64"})
	want := Pull{
		Policy: transfer.PullAlways, Access: spec.Access{Retries: 5, RetryDelay: time.Second},
		Platform: ocispec.Platform{OS: "linux", Architecture: "arm64"}, NoSignatures: true,
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestWarnUnused: flags for registries are reported where the destination is in no registry.
func TestWarnUnused(t *testing.T) {
	var f PushFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Register(fs)
	if err := fs.Parse([]string{"--creds", "u:p"}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := f.Parse("oci:./x", &out); err != nil || out.String() != "rbuild: warning: --creds has no effect on oci:./x, which is in no registry\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if _, err := f.Parse("docker://r.example/x", &out); err != nil || out.Len() > 0 {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestGlobalFlags(t *testing.T) {
	parseGlobal := func(args ...string) *GlobalFlags {
		t.Helper()
		var f GlobalFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.Register(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		return &f
	}

	o, err := parseGlobal("--registries-conf", "r").Registry(environment("REGISTRY_AUTH_FILE=a", "CONTAINERS_REGISTRIES_CONF=other"))
	if err != nil || o.AuthFile != "a" || o.RegistriesConf != "r" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parseGlobal().Registry(environment("CONTAINERS_REGISTRIES_CONF=other")); err != nil || o.RegistriesConf != "other" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parseGlobal().Registry(environment("BUILD_REGISTRY_SOURCES={")); err == nil || !strings.HasPrefix(err.Error(), "BUILD_REGISTRY_SOURCES in the environment: ") {
		t.Error(err)
	}

	for args, want := range map[string]string{"": "warning", "--log-level error": "error", "--debug": "debug"} {
		if level, err := parseGlobal(strings.Fields(args)...).LogLevel(); err != nil || level.String() != want {
			t.Errorf("%q: %s, %v", args, level, err)
		}
	}
	if _, err := parseGlobal("--log-level", "loud").LogLevel(); err == nil || !strings.Contains(err.Error(), `"loud": choose trace`) {
		t.Error(err)
	}
	for _, bad := range []string{"--cgroup-manager=x", "--userns-uid-map=1:1:1", "--userns-gid-map=0:1:1"} {
		name, _, _ := strings.Cut(bad, "=")
		if err := parseGlobal(bad).Check(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestHelp: each visible flag of build is below the heading of its subject.
func TestHelp(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(BuildFlags).Register(fs)
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && subjectOf(f) == "" {
			t.Errorf("--%s has no subject", f.Name)
		}
		if strings.Contains(f.Usage, "KEY=VALUE") && !strings.Contains(f.Usage, "e.g.") {
			t.Errorf("--%s names a format without an example: %s", f.Name, f.Usage)
		}
	})

	text := FlagUsages(fs)
	at := 0
	for _, subject := range Subjects() {
		i := strings.Index(text, "\n"+subject+":\n")
		if i < at {
			t.Errorf("heading %q is missing or not in order", subject)
		}
		at = i
	}
	network := text[strings.Index(text, "\nNetwork of RUN:\n"):strings.Index(text, "\nLimits:\n")]
	if !strings.Contains(network, "--add-host") || strings.Contains(network, "--memory") || strings.Contains(text, "--squash-all") {
		t.Errorf("network:\n%s", network)
	}
}

func TestUsage(t *testing.T) {
	root := &cobra.Command{Use: "prog", Short: "Do things"}
	SetHelp(root)
	sub := &cobra.Command{Use: "sub [flags] X", Aliases: []string{"s"}, Short: "Do one thing", Example: "  prog sub x", Run: func(*cobra.Command, []string) {}}
	sub.Flags().Bool("all", false, "Do all")
	root.PersistentFlags().String("root", "", "Directory")
	root.AddCommand(sub)

	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs([]string{"sub", "--help"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"prog sub [flags] X", "Aliases:\n  sub, s", "Examples:\n  prog sub x", "--all", "Flags of every command:", "--root"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}

	out.Reset()
	root.SetArgs([]string{"--help"})
	if err := root.Execute(); err != nil || !strings.Contains(out.String(), "Commands:") || !strings.Contains(out.String(), "Do one thing") {
		t.Errorf("%v:\n%s", err, out.String())
	}
}

func TestRefuseFlag(t *testing.T) {
	root := &cobra.Command{Use: "rbuild", SilenceErrors: true, SilenceUsage: true}
	root.SetFlagErrorFunc(RefuseFlag)
	build := &cobra.Command{Use: "build", Run: func(*cobra.Command, []string) {}}
	new(BuildFlags).Register(build.Flags())
	root.AddCommand(build)
	for _, tc := range []refusal{
		{"build --cache-from x", "--cache-from is not supported by this version of rbuild; nothing was done: "},
		{"build --build-argh x", "did you mean --build-arg?"},
		{"build --jobs x", "see rbuild build --help"},
		{"build --remote", "rbuild has no daemon"},
		{"build -Z", "see rbuild build --help"},
		{"-c x", "-c is not supported"},
	} {
		root.SetArgs(strings.Fields(tc.args))
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.args, err, tc.want)
		}
	}
}

func TestTables(t *testing.T) {
	if got := ShortID("0123456789abcdef"); got != "0123456789ab" {
		t.Errorf("%q", got)
	}
	if got := ShortID("01"); got != "01" {
		t.Errorf("%q", got)
	}
	for size, want := range map[int64]string{0: "0B", -1: "0B", 1500: "1.5kB", 123456789: "123MB"} {
		if got := HumanSize(size); got != want {
			t.Errorf("%d: %q, want %q", size, got, want)
		}
	}
	if got := HumanSince(time.Time{}); got != "" {
		t.Errorf("%q", got)
	}
	if got := HumanSince(time.Now().Add(-3 * time.Hour)); got != "3 hours ago" {
		t.Errorf("%q", got)
	}

	var out strings.Builder
	if err := WriteOne(&out, "{{.Name}}", struct{ Name string }{"x"}); err != nil || out.String() != "x\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := WriteOne(&out, "{{.None}}", struct{}{}); err == nil || !strings.HasPrefix(err.Error(), "--format: ") {
		t.Error(err)
	}
	if !WantsJSON("json") || WantsJSON("{{.ID}}") {
		t.Error("json is a format, a template is not")
	}
}
