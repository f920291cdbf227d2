package spec

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLocation: a relative path gets ./, because "oci:out" would be the name of an image.
func TestLocation(t *testing.T) {
	for _, tc := range []struct {
		name      string
		export    Export
		transport string
		location  string
	}{
		{"an image in the store", Export{Kind: ExportImage}, "", ""},
		{"an image for docker, without a path", Export{Kind: ExportDocker}, "", ""},
		{"files in a directory", Export{Kind: ExportLocal, Dest: "out"}, "", ""},
		{"files in a tar", Export{Kind: ExportTar, Dest: "out.tar"}, "", ""},
		{"an archive for docker", Export{Kind: ExportDocker, Dest: "a.tar"}, "docker-archive:", "docker-archive:./a.tar"},
		{"a layout", Export{Kind: ExportOCI, Dest: "out", IsDir: true}, "oci:", "oci:./out"},
		{"an archive of a layout", Export{Kind: ExportOCI, Dest: "a.tar"}, "oci-archive:", "oci-archive:./a.tar"},
		{"an absolute path", Export{Kind: ExportOCI, Dest: "/srv/a.tar"}, "oci-archive:", "oci-archive:/srv/a.tar"},
		{"standard output", Export{Kind: ExportOCI, Dest: "-"}, "oci-archive:", "oci-archive:-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.export.Transport(); got != tc.transport {
				t.Errorf("transport %q, want %q", got, tc.transport)
			}
			if got := tc.export.Location(); got != tc.location {
				t.Errorf("location %q, want %q", got, tc.location)
			}
		})
	}
}

func TestResultFiles(t *testing.T) {
	r := Result{
		IDFile:       File{Path: "id", From: "--iidfile"},
		MetadataFile: File{Path: "meta.json", From: "--metadata-file"},
	}
	if diff := cmp.Diff([]File{r.IDFile, r.MetadataFile}, r.Files()); diff != "" {
		t.Errorf("a file without a path is no file (-want +got):\n%s", diff)
	}
	if files := (Result{}).Files(); len(files) != 0 {
		t.Errorf("without flags: %+v", files)
	}
}

func TestTakesStdout(t *testing.T) {
	for _, tc := range []struct {
		name  string
		dests []string
		want  bool
	}{
		{name: "no export"},
		{"a file", []string{"a.tar"}, false},
		{"a file named like the flag", []string{"./-"}, false},
		{"standard output beside a file", []string{"a.tar", "-"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r Result
			for _, dest := range tc.dests {
				r.Exports = append(r.Exports, Export{Kind: ExportTar, Dest: dest})
			}
			if got := r.TakesStdout(); got != tc.want {
				t.Errorf("%t, want %t", got, tc.want)
			}
		})
	}
}

func TestFromStdin(t *testing.T) {
	for _, tc := range []struct {
		name  string
		input Input
		want  bool
	}{
		{"a directory", Input{Context: "."}, false},
		{"the context", Input{Context: "-"}, true},
		{"the only Dockerfile", Input{Context: ".", Dockerfiles: []string{"-"}}, true},
		{"the second Dockerfile", Input{Context: ".", Dockerfiles: []string{"Dockerfile", "-"}}, true},
		{"a file named like the flag", Input{Context: ".", Dockerfiles: []string{"./-"}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.input.FromStdin(); got != tc.want {
				t.Errorf("%t, want %t", got, tc.want)
			}
		})
	}
}

// TestDescribes: every method but build describes, also a method that a later version adds.
func TestDescribes(t *testing.T) {
	for method, want := range map[string]bool{
		"": false, CallBuild: false, CallCheck: true, CallOutline: true, CallTargets: true, "later": true,
	} {
		if got := (Call{Method: method}).Describes(); got != want {
			t.Errorf("method %q: %t, want %t", method, got, want)
		}
	}
}
