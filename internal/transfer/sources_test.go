package transfer

import (
	"strings"
	"testing"

	"go.podman.io/image/v5/docker"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"
)

func TestSources(t *testing.T) {
	for _, tc := range []struct {
		text, image string
		tls         types.OptionalBool
		insecure    bool
		err         string
	}{
		{text: "", image: "//docker.io/library/busybox"},
		{text: "{}", image: "//docker.io/library/busybox"},
		{text: `{"blockedRegistries":["docker.io"]}`, image: "//busybox", err: "blocks the registry docker.io"},
		{text: `{"blockedRegistries":["ocker.io"]}`, image: "//busybox"},
		{text: `{"allowedRegistries":["quay.io","example.org:5000"]}`, image: "//busybox", err: "does not allow"},
		{text: `{"allowedRegistries":["quay.io","example.org:5000"]}`, image: "//example.org:5000/a"},
		{text: `{"allowedRegistries":["quay.io","example.org:5000"]}`, image: "//example.org/a", err: "does not allow"},
		{text: `{"allowedRegistries":["quay.io"],"blockedRegistries":["quay.io"]}`, image: "//quay.io/a", err: "blocks"},
		{text: `{"insecureRegistries":["quay.io"]}`, image: "//quay.io/a", insecure: true},
		{text: `{"insecureRegistries":["quay.io"]}`, image: "//docker.io/a"},
		{text: `{"insecureRegistries":["quay.io"]}`, image: "//quay.io/a", tls: types.OptionalBoolFalse, err: "--tls-verify"},
	} {
		t.Run(tc.text+tc.image, func(t *testing.T) {
			s, err := ParseSources(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			ref, err := docker.ParseReference(tc.image)
			if err != nil {
				t.Fatal(err)
			}
			sys := &types.SystemContext{DockerInsecureSkipTLSVerify: tc.tls}
			got, err := s.admit(sys, ref)
			switch {
			case tc.err != "":
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%v, want %q", err, tc.err)
				}
			case err != nil:
				t.Error(err)
			case (got.DockerInsecureSkipTLSVerify == types.OptionalBoolTrue) != tc.insecure || sys.DockerInsecureSkipTLSVerify != tc.tls:
				t.Errorf("insecure: %v, given %v", got.DockerInsecureSkipTLSVerify, sys.DockerInsecureSkipTLSVerify)
			}
		})
	}

	local, err := ocilayout.ParseReference("/x:y")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Sources{Allowed: []string{"quay.io"}}).admit(&types.SystemContext{}, local); err != nil {
		t.Errorf("a directory is no registry: %v", err)
	}
	if _, err := ParseSources("[]"); err == nil {
		t.Error("a list is taken")
	}
}
