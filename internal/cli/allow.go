package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// allowFlags grant and withdraw permissions of the Dockerfile.
type allowFlags struct {
	list     []string
	noRemote bool
}

func (f *allowFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectSecurity, func(fs *pflag.FlagSet) {
		fs.StringArrayVar(&f.list, "allow", nil,
			"Permission for the Dockerfile: security.insecure (RUN --security=insecure), "+
				"fs.read=PATH (FROM oci:PATH and related names; * for every path), "+
				"network.host (RUN --network=host whatever --network is); e.g. fs.read=/srv/images")
		fs.BoolVar(&f.noRemote, "no-remote", false,
			"Refuse ADD of URLs and git repositories, also in triggers of base images; base images are still pulled")
	})
}

const readPermission = "fs.read="

func (f *allowFlags) parse(_ *Host, b *spec.Build) error {
	b.Allow.NoRemote = f.noRemote
	b.Allow.ReadFrom = "--allow " + readPermission
	for _, text := range f.list {
		path, isRead := strings.CutPrefix(text, readPermission)
		switch {
		case text == "security.insecure":
			b.Allow.Insecure = true
		case text == "network.host":
			b.Allow.HostNetwork = true
		case isRead && path != "":
			b.Allow.Read = append(b.Allow.Read, path)
		default:
			return fmt.Errorf("--allow %q: choose security.insecure, network.host or fs.read=PATH", text)
		}
	}

	return nil
}
