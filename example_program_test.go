package rbuild_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"codeberg.org/rbuild/rbuild"
)

const dockerfile = "FROM scratch\nCOPY --chmod=644 Dockerfile /\nLABEL name=app\n"

// A program that builds a Dockerfile and prints the ID of the image. With a timestamp the ID is the same on each machine.
func Example() {
	rbuild.Main() // first of all, because Build starts this program again

	dir, err := os.MkdirTemp("", "app-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		log.Fatal(err)
	}

	result, err := rbuild.Build(context.Background(), rbuild.Options{
		Context:   dir,
		Platform:  "linux/amd64",
		Timestamp: new(time.Unix(0, 0)),
		Store:     rbuild.Store{Root: filepath.Join(dir, "store"), RunRoot: filepath.Join(dir, "run")},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Image.ID)
	// Output: 15edaa1d948f6af37184661e66df82d8886f0066aa8e1ccafeb9f21ed135ad8f
}
