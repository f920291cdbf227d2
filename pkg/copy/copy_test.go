package copy

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestSmoke(t *testing.T) {
	ctx, root := t.TempDir(), t.TempDir()
	os.MkdirAll(filepath.Join(ctx, "d/in"), 0o755)
	os.WriteFile(filepath.Join(ctx, "d/in/x"), []byte("x\n"), 0o644)
	os.WriteFile(filepath.Join(ctx, "f"), []byte("f\n"), 0o644)
	tree, err := OpenContext(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := os.Open(root)
	for _, s := range []Spec{{Sources: []string{"f"}, Dest: "/a/b"}, {Sources: []string{"."}, Dest: "/all"}, {Sources: []string{"f", "d"}, Dest: "/multi/"}, {Inline: []File{{"x", []byte("hi")}}, Dest: "/in/"}} {
		sel, err := Select(context.Background(), tree, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(sel.Digest())
		if err := sel.Write(context.Background(), r); err != nil {
			t.Fatal(err)
		}
	}
	filepath.Walk(root, func(p string, i os.FileInfo, err error) error { t.Log(p, i.Mode(), i.Size()); return nil })
}
