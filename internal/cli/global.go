package cli

import (
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// GlobalFlags are the flags of every command.
type GlobalFlags struct {
	Root          string // of the store; empty: storage.conf
	RunRoot       string
	Driver        string
	DriverOptions []string
	Files         FileFlags

	logLevel string
	debug    bool

	// For RUN only. Command build has flags of the same names, which take their values before and after the command.
	manager    string
	uids, gids []string
}

// FileFlags name files that replace configuration files. The zero value means the usual files.
type FileFlags struct {
	RegistriesConf    string
	RegistriesConfDir string
	ShortNames        string
	SignaturePolicy   string
}

// Register defines the flags.
func (f *GlobalFlags) Register(fs *pflag.FlagSet) {
	fs.StringVar(&f.Root, "root", "",
		"Directory of the store's images and layers, e.g. /srv/images (default: storage.conf)")
	fs.StringVar(&f.RunRoot, "runroot", "",
		"Directory of the store's run-time state, e.g. /run/user/1000/images (default: storage.conf)")
	fs.StringVar(&f.Driver, "storage-driver", "", "Storage driver; only overlay is supported")
	fs.StringArrayVar(&f.DriverOptions, "storage-opt", nil,
		"Option of the storage driver, e.g. overlay.mountopt=nodev; replaces those of storage.conf")
	fs.StringVar(&f.Files.RegistriesConf, "registries-conf", "", "File in place of registries.conf")
	fs.StringVar(&f.Files.RegistriesConfDir, "registries-conf-dir", "", "Directory in place of registries.conf.d")
	fs.StringVar(&f.Files.ShortNames, "short-name-alias-conf", "", "File in place of the user's record of short names")
	fs.StringVar(&f.Files.SignaturePolicy, "signature-policy", "", "File in place of policy.json")
	fs.StringVar(&f.logLevel, "log-level", "warn",
		"Lowest level of log lines: trace, debug, info, warn, error or fatal")

	// buildah's, which a script may give with every command
	fs.BoolVar(&f.debug, "debug", false, "Same as --log-level debug")
	fs.StringVar(&f.manager, "cgroup-manager", "", "Manager of the cgroups of RUN: systemd, cgroupfs or disabled")
	fs.StringSliceVar(&f.uids, "userns-uid-map", nil, "User ids that RUN knows as ID:ID:COUNT, e.g. 0:0:1000")
	fs.StringSliceVar(&f.gids, "userns-gid-map", nil, "Group ids that RUN knows as ID:ID:COUNT, e.g. 0:0:1000")
	hide(fs, "debug", "cgroup-manager", "userns-uid-map", "userns-gid-map")
}

// LogLevel returns the level of log lines.
func (f *GlobalFlags) LogLevel() (logrus.Level, error) {
	if f.debug {
		return logrus.DebugLevel, nil
	}
	level, err := logrus.ParseLevel(f.logLevel)
	if err != nil {
		return level, fmt.Errorf("--log-level %q: choose trace, debug, info, warn, error or fatal", f.logLevel)
	}
	return level, nil
}

// Check refuses values that are wrong whatever the file system holds.
func (f *GlobalFlags) Check() error {
	if err := CheckManager(f.manager); err != nil {
		return err
	}
	_, uidErr := ParseIDs("--userns-uid-map", f.uids)
	_, gidErr := ParseIDs("--userns-gid-map", f.gids)
	return errors.Join(uidErr, gidErr)
}

// Variables of the environment that say how registries are reached.
const (
	authVariable       = "REGISTRY_AUTH_FILE"
	registriesVariable = "CONTAINERS_REGISTRIES_CONF"
	sourcesVariable    = "BUILD_REGISTRY_SOURCES"
)

// Registry returns how registries are reached, by the flags and the environment.
func (f *GlobalFlags) Registry(env spec.Lookup) (o transfer.Options, err error) {
	sources, _ := env(sourcesVariable)
	if o.Sources, err = transfer.ParseSources(sources); err != nil {
		return o, fmt.Errorf("%s in the environment: %w", sourcesVariable, err)
	}

	o.AuthFile, _ = env(authVariable)
	o.RegistriesConf = f.Files.RegistriesConf
	if o.RegistriesConf == "" {
		o.RegistriesConf, _ = env(registriesVariable)
	}
	o.RegistriesConfDir = f.Files.RegistriesConfDir
	o.ShortNameAliases = f.Files.ShortNames
	o.SignaturePolicy = f.Files.SignaturePolicy
	return o, nil
}
