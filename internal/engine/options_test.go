package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func TestImageOptions(t *testing.T) {
	platform := ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	for _, tc := range []struct {
		name  string
		build spec.Build
		want  record.Options
	}{
		{
			name: "the defaults: OCI, but an unchanged image keeps its format, and no platform is recorded",
			want: record.Options{AnyFormat: true, Format: commit.OCI},
		},
		{
			"a platform that is not chosen",
			spec.Build{Plan: spec.Plan{Platform: platform}},
			record.Options{AnyFormat: true, Format: commit.OCI},
		},
		{
			"a chosen platform",
			spec.Build{Plan: spec.Plan{Platform: platform, PlatformGiven: true}},
			record.Options{AnyFormat: true, Format: commit.OCI, Platform: platform},
		},
		{"OCI by name", spec.Build{Image: spec.Image{Format: "oci"}}, record.Options{Format: commit.OCI}},
		{"docker", spec.Build{Image: spec.Image{Format: "docker"}}, record.Options{Format: commit.Docker}},
		{
			"files only",
			spec.Build{Result: spec.Result{NoImage: true}},
			record.Options{None: true, AnyFormat: true, Format: commit.OCI},
		},
		{
			"labels keep their order",
			spec.Build{Image: spec.Image{
				Format: "oci", Labels: []spec.Label{{Key: "b", Value: "1"}, {Key: "a"}}, NoLabels: true,
				Unset: spec.Unset{Env: []string{"E"}, Labels: []string{"L"}, Annotations: []string{"A"}},
			}},
			record.Options{
				Format:      commit.OCI,
				Labels:      record.LabelOptions{Set: []record.Label{{Key: "b", Value: "1"}, {Key: "a"}}, Unset: []string{"L"}, NoBase: true},
				Annotations: record.AnnotationOptions{Unset: []string{"A"}},
				UnsetEnv:    []string{"E"},
			},
		},
		{
			"stages and system",
			spec.Build{Image: spec.Image{
				Format: "oci", OSVersion: "10", OSFeatures: []string{"f-"}, NoHistory: true, CreatedNote: true, NoAnnotations: true,
				Stages: spec.Stages{Save: true, Label: true, Labels: []spec.Label{{Key: "ci"}}},
			}},
			record.Options{
				Format: commit.OCI, NoHistory: true,
				System:      record.SystemOptions{Version: "10", Features: []string{"f-"}},
				Annotations: record.AnnotationOptions{NoBase: true, Created: true},
				Stages:      record.StageImages{Save: true, Describe: true, Labels: []record.Label{{Key: "ci"}}},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, imageOptions(&tc.build)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFileTimes(t *testing.T) {
	for how, want := range map[string]builder.FileTimes{
		spec.KeepTimes: builder.KeepTimes, spec.SetTimes: builder.SetTimes, spec.ClampTimes: builder.ClampTimes,
	} {
		if got := fileTimes(how); got != want {
			t.Errorf("%q: %v, want %v", how, got, want)
		}
	}
}

// TestPlanOptions: a description needs no permissions, and a check looks at all stages unless a target is named.
func TestPlanOptions(t *testing.T) {
	for _, tc := range []struct {
		name               string
		call, target       string
		insecure, refuses  bool
		allStages, wantAll bool
	}{
		{name: "a build", refuses: true},
		{name: "a build by name", call: spec.CallBuild, refuses: true},
		{name: "a build of all stages", allStages: true, wantAll: true, refuses: true},
		{name: "a check", call: spec.CallCheck, insecure: true, wantAll: true},
		{name: "a check of one target", call: spec.CallCheck, target: "test", insecure: true},
		{name: "an outline", call: spec.CallOutline, insecure: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := planOptions(&spec.Build{
				Plan: spec.Plan{Target: tc.target, AllStages: tc.allStages, Contexts: map[string]string{"b": "x", "a": "y"}},
				Call: spec.Call{Method: tc.call},
			}, spec.Args{"V": "1"})
			if o.Insecure != tc.insecure || o.AllStages != tc.wantAll || (o.Refuse != nil) != tc.refuses {
				t.Errorf("insecure %t, all stages %t, refuses names of files: %t", o.Insecure, o.AllStages, o.Refuse != nil)
			}
			if diff := cmp.Diff([]string{"a", "b"}, o.Contexts); diff != "" || o.Target != tc.target || o.BuildArgs["V"] != "1" {
				t.Errorf("%+v: contexts (-want +got):\n%s", o, diff)
			}
		})
	}
}
