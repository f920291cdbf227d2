package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Reasons that several flags share.
const (
	noService    = "rbuild has no daemon and no service to connect to"
	noRuntime    = "RUN is started by rbuild itself, without an OCI runtime"
	noSignatures = "rbuild makes no signatures; sign the pushed image, " +
		"for example with skopeo copy --sign-by or cosign"
	noEncryption  = "rbuild encrypts no layers; use skopeo copy --encryption-key"
	noDecryption  = "rbuild reads no encrypted layers; decrypt the image with skopeo copy --decryption-key"
	noLists       = "rbuild makes no lists of images; push each image under a tag of its own, and use buildah manifest"
	noSBOM        = "no attestations and no bill of materials are made; scan the image that was built"
	noContainers  = "rbuild keeps no containers"
	noNetworks    = "rbuild configures no networks; see --network of rbuild build"
	noProfile     = "rbuild writes no profiles of itself"
	noBlobs       = "layers are kept in the store only, and are pushed from there"
	noCacheImages = "the cache is in the store: keep the directory of --root between builds"
	noUserMaps    = "the store keeps the ids of the image, which cannot stand for others; see --userns-uid-map"
)

// refusedFlags are the flags of buildah's, podman's and docker's commands of the same name that rbuild does not have,
// by command, each with the reason and the remedy. The key "" is the program itself. A short form is a name of one letter.
var refusedFlags = map[string]map[string]string{
	"": {
		"connection": noService, "context": noService, "host": noService, "identity": noService, "remote": noService,
		"ssh": noService,
		"url": noService, "c": noService, "r": noService, "H": noService, "tls": noService, "tlscacert": noService,
		"tlscert": noService,
		"tlskey":  noService, "tlsverify": noService,
		"config": "choose docker's directory of credentials with $DOCKER_CONFIG, " +
			"or a file of them with --authfile",
		"conmon":           noContainers,
		"namespace":        noContainers,
		"volumepath":       noContainers,
		"events-backend":   "rbuild records no events; see rbuild build --progress rawjson",
		"syslog":           "rbuild writes to no system log; see rbuild build --logfile",
		"out":              "redirect standard output instead",
		"noout":            "redirect standard output instead",
		"hooks-dir":        "OCI hooks are programs that a runtime starts, and rbuild needs none",
		"runtime":          noRuntime,
		"runtime-flag":     noRuntime,
		"network-cmd-path": noNetworks, "network-config-dir": noNetworks,
		"module":              "name the file with $CONTAINERS_CONF_OVERRIDE",
		"tmpdir":              "choose the directory of the store's run-time state with --runroot",
		"default-mounts-file": "RUN has no mounts that are not asked for; see --volume of rbuild build",
		"cpu-profile":         noProfile, "memory-profile": noProfile,
		"imagestore": "images and layers are in one directory, --root; " +
			"storage.conf can name additionalimagestores",
		"pull-option": "set pull_options in storage.conf",
		"transient-store": "images always survive a restart of the machine; choose another place with --root, " +
			"--runroot",
	},
	BuildCommand: {
		"attest":     noSBOM,
		"blob-cache": noBlobs,
		"cache-from": noCacheImages, "cache-to": noCacheImages,
		"cdi-config-dir":    "devices are given by their files, --device /dev/NAME",
		"cpp-flag":          "rbuild does not run the C preprocessor; run cpp first, and give its output with --file",
		"cw":                "rbuild makes no confidential workloads",
		"decryption-key":    noDecryption,
		"hooks-dir":         "OCI hooks are programs that a runtime starts, and rbuild needs none",
		"manifest":          noLists,
		"policy":            "sources are restricted by policy.json (--signature-policy) and $BUILD_REGISTRY_SOURCES",
		"print":             "use --call",
		"runtime-flag":      noRuntime,
		"sbom-image-output": noSBOM, "sbom-image-purl-output": noSBOM, "sbom-merge-strategy": noSBOM, "sbom-output": noSBOM,
		"sbom-purl-output": noSBOM, "sbom-scanner-command": noSBOM, "sbom-scanner-image": noSBOM,
		"sign-by": noSignatures,
		"source-policy-file": "see --signature-policy and $BUILD_REGISTRY_SOURCES; " +
			"replace a source with --build-context",
		"userns-gid-map-group": noUserMaps, "userns-uid-map-user": noUserMaps,
	},
	"pull": {"blob-cache": noBlobs, "decryption-key": noDecryption},
	"push": {
		"add-compression": "one compression is pushed at a time; push again with another --compression-format and tag",
		"all-tags":        "name each tag: rbuild push NAME:TAG", "a": "name each tag: rbuild push NAME:TAG",
		"blob-cache":    noBlobs,
		"encrypt-layer": noEncryption, "encryption-key": noEncryption,
		"platform": "an image of the store is for one platform; name the image by its ID",
		"sign-by":  noSignatures, "sign-by-sigstore": noSignatures, "sign-by-sigstore-private-key": noSignatures,
		"sign-passphrase-file": noSignatures,
	},
	"login":  {"secret": "give the password with --password-stdin"},
	"images": {"tree": "see rbuild history"},
	"rmi":    {"platform": "an image of the store is for one platform; name the image by its ID"},
	"inspect": {
		"latest": noContainers, "l": noContainers,
		"platform": "an image of the store is for one platform; name the image by its ID",
	},
	"history": {"platform": "an image of the store is for one platform; name the image by its ID"},
	"prune": {
		"filter":   "choose images with rbuild images --filter, and remove them with rbuild rmi",
		"external": "use --force", "build-cache": "the cache of steps is pruned in any case",
		"volumes": noContainers,
	},
	"unshare": {
		"mount": noContainers, "m": noContainers,
		"rootless-netns": noNetworks,
	},
}

// RefusedFlags returns the flags that rbuild does not have, by command, with the reasons. The key "" is the program itself.
func RefusedFlags() map[string]map[string]string { return refusedFlags }

// RefuseFlag words the error for a flag that does not exist or has a bad value. It is for cobra's SetFlagErrorFunc.
func RefuseFlag(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())
	}

	name, form := unknown.GetSpecifiedName(), "--"
	if unknown.GetSpecifiedShortnames() != "" {
		form = "-"
	}
	if why := whyRefused(cmd, name); why != "" {
		return fmt.Errorf("%s%s is not supported by this version of rbuild; nothing was done: %s", form, name, why)
	}

	hint := "see " + cmd.CommandPath() + " --help"
	if form == "--" {
		if match := instructions.Suggest(name, visibleFlags(cmd)); match != "" {
			hint = "did you mean --" + match + "?"
		}
	}

	return fmt.Errorf("%w (%s)", err, hint)
}

// whyRefused is the reason why the command does not have a flag of its peers; "": no peer has it.
func whyRefused(cmd *cobra.Command, flag string) string {
	command := cmd.Name()
	if !cmd.HasParent() {
		command = ""
	}
	if why, ok := refusedFlags[command][flag]; ok {
		return why
	}
	if len(flag) > 1 {
		return refusedFlags[""][flag]
	}
	return ""
}

// visibleFlags are the names of the flags that the command has.
func visibleFlags(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, strings.TrimSpace(f.Name))
		}
	})
	return names
}
