package cli

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// A class says what becomes of a flag at every destination. A new flag needs one here: say where it is done, and have it
// refused, or told by a warning, where it means nothing.
type class string

const (
	buildClass    class = "says what is built, or how: done everywhere, because it is done before anything goes anywhere"
	imageClass    class = "says what the image is like: done where there is an image, told where only files are made"
	formatClass   class = "as imageClass; where a destination has one format only, the conversion is told, or refused by push"
	compressClass class = "compression of layers: done where layers are compressed, refused elsewhere"
	accessClass   class = "how registries are reached: done for bases and registries; told by push and pull of what is in no registry"
	placeClass    class = "is a destination itself, or a file that tells of the result"
	hostClass     class = "how the program works and what it shows"
)

var buildClasses = map[class]string{
	buildClass: `add-host allow arch build-arg build-arg-file build-context cache-ttl cap-add cap-drop cgroup-parent
		cgroupns compat-volumes cpu-period cpu-quota cpu-shares cpus cpuset-cpus cpuset-mems device dns dns-option dns-search
		env file from group-add http-proxy ignorefile ipc isolation jobs layers limits memory memory-swap mount net network
		no-cache no-cache-filter no-hostname no-hosts no-output-timeout no-remote os pid pids-limit platform pull pull-always
		pull-never save-stages stage-labels layer-label
		rewrite-timestamp secret security-opt shm-size skip-unused-stages source-date-epoch ssh stdin step-timeout
		target timeout timestamp ulimit userns userns-gid-map userns-uid-map uts variant volume retry retry-delay`,
	imageClass: `annotation created-annotation identity-label inherit-annotations inherit-labels label omit-history os-feature
		os-version squash squash-all unsetannotation unsetenv unsetlabel`,
	formatClass:   `format`,
	compressClass: `compression-format compression-level force-compression`,
	accessClass:   `authfile cert-dir creds tls-verify`,
	placeClass:    `iidfile iidfile-raw raw-iidfile load metadata-file output push tag`,
	hostClass: `all-platforms builder call cgroup-manager check cni-config-dir cni-plugin-path compress disable-compression
		disable-content-trust force-rm log-rusage logfile loglevel logsplit progress provenance quiet rm runtime
		rusage-logfile sbom`,
}

var pushClasses = map[class]string{
	formatClass:   `format`,
	compressClass: `compression-format compression-level force-compression`,
	accessClass:   `authfile cert-dir creds tls-verify`,
	placeClass:    `digestfile`,
	buildClass:    `remove-signatures retry retry-delay`,
	hostClass:     `all compress disable-compression disable-content-trust quiet rm`,
}

var pullClasses = map[class]string{
	accessClass: `authfile cert-dir creds tls-verify`,
	buildClass:  `all-tags arch os platform policy remove-signatures retry retry-delay variant`,
	hostClass:   `disable-content-trust quiet`,
}

// destinations are those of a build by their flags, with what they are: "image" has an image, "files" has none; "compressed"
// and "uncompressed" say what becomes of layers, "mixed" has other documents than an OCI image.
var destinations = map[string]string{
	"-t name":                                  "image uncompressed",
	"-t containers-storage:name":               "image uncompressed",
	"-t docker://r.example/name":               "image compressed",
	"-t r.example/name --push":                 "image compressed",
	"-t oci:lay:1":                             "image compressed",
	"-t oci-archive:lay.tar:1":                 "image compressed",
	"-t dir:./d":                               "image compressed",
	"-t docker-archive:d.tar:name":             "image uncompressed docker",
	"-o type=docker,dest=d.tar":                "image uncompressed docker",
	"-o type=docker,dest=file":                 "image uncompressed docker",
	"-t oci:./lay -o type=docker,dest=file":    "image uncompressed docker",
	"-o type=docker":                           "image uncompressed",
	"-o type=oci,dest=lay.tar":                 "image compressed",
	"-o type=oci,dest=lay,tar=false":           "image compressed",
	"-o type=image,name=n":                     "image uncompressed",
	"-o type=image,name=r.example/n,push=true": "image compressed",
	"-o type=registry,name=r.example/n":        "image compressed",
	"-o type=local,dest=out":                   "files uncompressed",
	"-o out":                                   "files uncompressed",
	"-o type=tar,dest=out.tar":                 "files uncompressed",
	"-o type=cacheonly":                        "files uncompressed",
}

// ofManifest are flags of the image whose effect is in the manifest, where a docker-archive has no place for it.
var ofManifest = map[string]bool{"annotation": true, "created-annotation": true}

// values are those of the flags that are given a value.
var values = map[string][]string{
	"annotation": {"a=b"}, "created-annotation": {"true"}, "inherit-labels": {"false"}, "label": {"a=b"}, "omit-history": {"true"},
	"identity-label": {"true"}, "inherit-annotations": {"false"}, "os-feature": {"a"}, "os-version": {"1"},
	"squash": {"true"}, "squash-all": {"true"}, "unsetannotation": {"a"}, "unsetenv": {"A"}, "unsetlabel": {"a"}, "format": {"oci"},
	"compression-format": {"gzip", "zstd", "zstd:chunked"}, "compression-level": {"3"}, "force-compression": {"false"},
}

// TestFlagsOfBuild walks over every flag of build and every destination.
func TestFlagsOfBuild(t *testing.T) {
	classes := classify(t, "build", func(fs *pflag.FlagSet) { new(BuildFlags).Register(fs) }, buildClasses)
	for name, class := range classes {
		for _, value := range values[name] {
			for destination, is := range destinations {
				args := append(strings.Fields(destination), "--"+name+"="+value)
				b, err := parse(t, args)
				var notices []string
				if err == nil {
					notices = b.Result.Notices
				}
				told := strings.Contains(strings.Join(notices, "\n"), "--"+name)
				wantErr := class == compressClass && strings.Contains(is, "uncompressed")
				wantTold := (class == imageClass || class == formatClass) && strings.Contains(is, "files") ||
					(class == formatClass || ofManifest[name]) && strings.Contains(is, "docker")
				if (err != nil) != wantErr || err != nil && !strings.Contains(err.Error(), "--"+name) {
					t.Errorf("%q: %v; refused by name: want %t", args, err, wantErr)
				}
				if err == nil && told != wantTold {
					t.Errorf("%q: warnings %q; want one: %t", args, notices, wantTold)
				}
			}
		}
	}

	for name, class := range classes {
		if (class == imageClass || class == formatClass || class == compressClass) && values[name] == nil {
			t.Errorf("--%s: there is no value to try it with", name)
		}
	}
}

// TestFlagsOfPush walks over every flag of push and every destination.
func TestFlagsOfPush(t *testing.T) {
	classify(t, "push", func(fs *pflag.FlagSet) { new(PushFlags).Register(fs) }, pushClasses)
	for destination, refused := range map[string]string{
		"docker://r.example/x": "", "r.example/x": "",
		"oci:lay:1":            "--format=docker --format=v2s2 --format=v2s1",
		"oci-archive:lay.tar":  "--format=docker --format=v2s2 --format=v2s1",
		"dir:./d":              "",
		"docker-archive:d.tar": "--format=oci --format=v2s1 --compression-format=zstd --compression-level=3 --force-compression=false",
		"containers-storage:x": "--format=v2s1 --compression-format=zstd --compression-level=3 --force-compression=false",
	} {
		for flag := range strings.FieldsSeq("--format=oci --format=docker --format=v2s2 --format=v2s1 --compression-format=zstd " +
			"--compression-level=3 --force-compression=false") {
			want := slices.Contains(strings.Fields(refused), flag)
			err := checkPush(t, flag, destination)
			name, _, _ := strings.Cut(flag, "=")
			if (err != nil) != want || err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("push %s image %s: %v; refused by name: want %t", flag, destination, err, want)
			}
		}
	}
}

// TestFlagsOfPull walks over every flag of pull.
func TestFlagsOfPull(t *testing.T) {
	classify(t, "pull", func(fs *pflag.FlagSet) { new(PullFlags).Register(fs) }, pullClasses)
}

// checkPush returns the error of the flags of a push.
func checkPush(t *testing.T, flag, destination string) error {
	t.Helper()
	var f PushFlags
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.Register(fs)
	if err := fs.Parse([]string{flag}); err != nil {
		t.Fatal(err)
	}
	_, err := f.Parse(destination, io.Discard)
	return err
}

// classify gives every flag of a command its class, and fails for a flag without one.
func classify(t *testing.T, command string, register func(*pflag.FlagSet), classes map[class]string) map[string]class {
	t.Helper()
	flags := pflag.NewFlagSet(command, pflag.ContinueOnError)
	register(flags)
	known := map[string]class{}
	for class, names := range classes {
		for name := range strings.FieldsSeq(names) {
			if known[name] != "" {
				t.Errorf("--%s has two classes", name)
			}
			known[name] = class
		}
	}

	flags.VisitAll(func(flag *pflag.Flag) {
		if known[flag.Name] == "" {
			t.Errorf("--%s of %s has no class: say at which destinations it is done, and where it is refused", flag.Name, command)
		}
	})

	for name := range known {
		if flags.Lookup(name) == nil {
			t.Errorf("--%s has a class, and %s has no such flag", name, command)
		}
	}

	return known
}
