package transfer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"
)

// Options say how registries are reached and which configuration is used. The
// zero value means podman's defaults: TLS verified unless registries.conf says
// otherwise, credentials from the user's auth files, no output.
type Options struct {
	AuthFile          string           // credentials file; empty: the default search
	CertDir           string           // directory with *.crt, *.cert, *.key; empty: certs.d
	Creds             string           // "user:password"; empty: from the auth files
	TLSVerify         *bool            // nil: verify, except for registries marked insecure in registries.conf
	RegistriesConf    string           // file to read instead of registries.conf
	RegistriesConfDir string           // directory to read instead of registries.conf.d
	ShortNameAliases  string           // file for recorded short names instead of the user's; it need not exist
	SignaturePolicy   string           // file to read instead of policy.json
	Platform          ocispec.Platform // what to choose from a manifest list; empty fields: the host's
	// KeepName gives an image the name that it is pulled by whatever its platform is. Otherwise a name goes on to mean the
	// image for the host's platform.
	KeepName     bool
	NoSignatures bool   // leave the signatures of an image behind
	TempDir      string // where layers lie while they are pulled, private to the user; empty: a directory of the store
	// Config looks at the config of an image before its layers are pulled into a layout, and may refuse it; nil: nothing does.
	Config func(config []byte) error
	// Owner says why no file can belong to that user and group; nil: files can belong to anybody.
	Owner      func(uid, gid int) error
	MaxLayers  int           // refuse to pull an image with more layers into the store; 0: no limit
	Sources    Sources       // which registries may be used; zero: all
	UserAgent  string        // sent to registries; empty: the library's
	Report     io.Writer     // progress, as lines; nil: none
	Bars       *os.File      // a terminal for progress as bars, in place of the lines of a copy; nil: none
	Retries    int           // attempts after the first; 0: 3, negative: none
	RetryDelay time.Duration // before the first retry, doubled for each further one; 0: 1 s

	limits watchLimits // of tests; zero: the defaults
}

const (
	defaultRetries    = 3
	defaultRetryDelay = time.Second
)

// systemContext translates o for the library.
func (o Options) systemContext() (*types.SystemContext, error) {
	sys := &types.SystemContext{
		AuthFilePath:                o.AuthFile,
		DockerCertPath:              o.CertDir,
		SystemRegistriesConfPath:    o.RegistriesConf,
		SystemRegistriesConfDirPath: o.RegistriesConfDir,
		UserShortNameAliasConfPath:  o.ShortNameAliases,
		SignaturePolicyPath:         o.SignaturePolicy,
		OSChoice:                    o.Platform.OS,
		ArchitectureChoice:          o.Platform.Architecture,
		VariantChoice:               o.Platform.Variant,
		DockerRegistryUserAgent:     o.UserAgent,
	}

	if o.TLSVerify != nil {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!*o.TLSVerify)
		sys.OCIInsecureSkipTLSVerify = !*o.TLSVerify
	}

	if o.Creds != "" {
		user, password, _ := strings.Cut(o.Creds, ":")
		if user == "" {
			return nil, errors.New("credentials need a user name: user:password")
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	}

	return sys, nil
}

// copyReport returns the writer for the progress of a copy: the library draws bars on a file that is a terminal. What it
// writes there names digests only.
func (o Options) copyReport() io.Writer {
	if o.Bars != nil {
		return o.Bars
	}
	return o.Report
}

// say writes one line of progress.
func (o Options) say(format string, args ...any) {
	if o.Report != nil {
		// A reader of progress that went away is no reason to stop.
		_, _ = fmt.Fprintf(o.Report, format+"\n", args...)
	}
}
