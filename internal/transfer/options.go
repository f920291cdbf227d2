package transfer

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// Options say how registries are reached, which configuration is used, and what is accepted. The
// zero value means podman's defaults: TLS verified unless registries.conf says otherwise,
// credentials from the user's auth files, no output.
type Options struct {
	images.Names // the configuration of names
	Access       // to registries
	Checks       // of images
	Retry        // of failed copies
	Progress     // of copies

	Platform ocispec.Platform // to choose from a list of manifests; empty fields: the host's
	// KeepName gives an image the name that it is pulled by even if its platform is not the host's.
	// Otherwise a name continues to mean the image for the host's platform.
	KeepName bool
	TempDir  string // for layers while they are copied, private to the user; "": a directory of the store

	limits watchLimits // of tests; zero: the defaults
}

// Access says how registries are reached.
type Access struct {
	AuthFile  string  // file with credentials; "": the default search of containers-auth.json(5)
	CertDir   string  // directory with *.crt, *.cert and *.key files; "": certs.d
	Creds     string  // "user:password"; "": from the auth files
	TLSVerify *bool   // nil: verify, except for registries marked insecure in registries.conf
	Sources   Sources // the registries that may be used; zero: all
	UserAgent string  // header sent to registries; "": the library's
}

// Checks says which images are accepted.
type Checks struct {
	SignaturePolicy string // file to read instead of policy.json
	NoSignatures    bool   // do not copy the signatures of an image
	MaxLayers       int    // refuse to pull an image with more layers; 0: no limit

	// Config looks at the config of an image before its layers are pulled, and may refuse the
	// image; nil: nothing does.
	Config func(config []byte) error
	// Owner reports why no file on this machine can belong to that user and group; nil: files can
	// belong to anybody.
	Owner func(uid, gid int) error
}

// Retry says how often a failed copy is repeated.
type Retry struct {
	Retries    int           // attempts after the first; 0: 3, negative: none
	RetryDelay time.Duration // before the first retry, doubled for each further retry; 0: 1 s
}

// Progress says where the progress of copies is shown.
type Progress struct {
	Report io.Writer // as lines of text; nil: none
	Bars   *os.File  // a terminal for bars, in place of the lines of a copy; nil: none
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

// wanted is the platform that images are pulled for, complete.
func (o Options) wanted() ocispec.Platform {
	host := images.HostPlatform()
	return ocispec.Platform{
		OS:           cmp.Or(o.Platform.OS, host.OS),
		Architecture: cmp.Or(o.Platform.Architecture, host.Architecture),
		Variant:      o.Platform.Variant,
	}
}

// spoolDir returns the directory for temporary files of copies from or to st.
func (o Options) spoolDir(st Store) string { return cmp.Or(o.TempDir, st.SpoolDir()) }

// copyReport returns the writer for the progress of a copy. The library draws bars on a terminal;
// they show digests only.
func (o Options) copyReport() io.Writer {
	if o.Bars != nil {
		return o.Bars
	}
	return o.Report
}

// say writes a line of progress.
func (o Options) say(format string, args ...any) {
	if o.Report != nil {
		// A copy does not fail because nobody reads its progress.
		_, _ = fmt.Fprintf(o.Report, format+"\n", args...)
	}
}
