package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOneDoor: text reaches standard output and standard error through the streams of terminal.go only. Each use of the
// files themselves is listed here.
func TestOneDoor(t *testing.T) {
	want := map[string]bool{
		"cmd/rbuild/terminal.go: os.Stdout":        true, // the streams
		"cmd/rbuild/terminal.go: os.Stderr":        true,
		"cmd/rbuild/terminal.go: .Raw":             true, // progress bars
		"internal/engine/listener.go: .Raw":        true, // the live view
		"cmd/rbuild/root.go: stdoutFile":           true, // an archive
		"cmd/rbuild/unshare.go: stdoutFile":        true, // for the user's command
		"cmd/rbuild/unshare.go: stderrFile":        true,
		"pkg/userns/enter_linux.go: os.Stdout":     true, // the builder inherits them
		"pkg/userns/enter_linux.go: os.Stderr":     true,
		"cmd/rbuild/terminal.go: logrus.SetOutput": true,
	}

	found := map[string]bool{}
	for _, dir := range []string{"../../cmd", "../../pkg", "../../internal"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/nstest/") {
				return err
			}
			uses, err := rawOutput(path)
			for _, use := range uses {
				found[strings.TrimPrefix(filepath.ToSlash(path), "../../")+": "+use] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("ways to a terminal beside the streams (-want +found):\n%s", diff)
	}
}

// rawOutput lists what in a source file writes to the standard files, or hands them out.
func rawOutput(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}

	uses := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			name := fmt.Sprintf("%v.%s", n.X, n.Sel.Name)
			switch {
			case slices.Contains([]string{
				"os.Stdout", "os.Stderr", "fmt.Print", "fmt.Printf", "fmt.Println", "logrus.SetOutput", "syscall.Stdout", "syscall.Stderr",
			}, name):
				uses[name] = true
			case n.Sel.Name == "Raw":
				uses[".Raw"] = true
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"print", "println", "stdoutFile", "stderrFile"}, f.Name) {
				uses[f.Name] = true
			}
		case *ast.BasicLit:
			for _, device := range []string{`"/dev/tty`, `"/dev/std`} {
				if strings.HasPrefix(n.Value, device) {
					uses[n.Value] = true
				}
			}
		}

		return true
	})

	return slices.Sorted(maps.Keys(uses)), nil
}
