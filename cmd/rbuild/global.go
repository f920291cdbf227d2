package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// configFlags are the global flags that replace configuration files, and those of buildah that a script may give with
// any command. The zero value reads the usual files.
type configFlags struct {
	registriesConfDir string
	shortNames        string
	signaturePolicy   string
	debug             bool

	// For RUN only. Command bud has flags of the same names, which take their values before and after the command.
	manager    string
	uids, gids []string
}

func (f *configFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.registriesConfDir, "registries-conf-dir", "", "use this directory instead of registries.conf.d")
	fs.StringVar(&f.shortNames, "short-name-alias-conf", "", "use this file instead of the user's record of short names")
	fs.StringVar(&f.signaturePolicy, "signature-policy", "", "use this file instead of policy.json")
	fs.BoolVar(&f.debug, "debug", false, "same as --log-level debug")
	fs.StringVar(&f.manager, "cgroup-manager", "", "who makes the cgroups of RUN: systemd, cgroupfs or disabled")
	fs.StringSliceVar(&f.uids, "userns-uid-map", nil, "ID:ID:COUNT, the user ids that RUN knows")
	fs.StringSliceVar(&f.gids, "userns-gid-map", nil, "the same for group ids")
	for _, name := range []string{"debug", "cgroup-manager", "userns-uid-map", "userns-gid-map"} {
		_ = fs.MarkHidden(name) // the flag was defined above
	}
}

// check refuses a file or directory that cannot be read, before anything is done.
func (f *configFlags) check() error {
	if f.debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	if err := checkManager(f.manager); err != nil {
		return err
	}

	_, uidErr := parseIDs("--userns-uid-map", f.uids)
	_, gidErr := parseIDs("--userns-gid-map", f.gids)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}

	if f.registriesConfDir != "" {
		if _, err := os.ReadDir(f.registriesConfDir); err != nil {
			return fmt.Errorf("--registries-conf-dir: %w", err)
		}
	}

	if err := transfer.CheckPolicyFile(f.signaturePolicy); err != nil {
		return fmt.Errorf("--signature-policy: %w", err)
	}

	return nil
}

// apply adds the files to how registries are reached.
func (f *configFlags) apply(o transfer.Options) transfer.Options {
	o.RegistriesConfDir, o.ShortNameAliases, o.SignaturePolicy = f.registriesConfDir, f.shortNames, f.signaturePolicy
	return o
}

// checkManager refuses a --cgroup-manager that does not exist.
func checkManager(name string) error {
	if !slices.Contains([]string{"", "systemd", "cgroupfs", "disabled"}, name) {
		return fmt.Errorf("--cgroup-manager %q: choose systemd, cgroupfs or disabled", name)
	}
	return nil
}
