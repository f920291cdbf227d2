package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// export is one --output.
type export struct {
	kind  string   // local, tar, oci, docker, image or cacheonly
	dest  string   // - for standard output; "" where the kind needs none
	names []string // for the image
	push  bool     // image: push it to its names
	isDir bool     // oci: a directory, no archive
}

// parseExport reads one --output: key=value pairs as in CSV, or a destination alone.
func parseExport(text string) (export, error) {
	if text == "-" {
		return export{kind: "tar", dest: "-"}, nil
	}
	if text == "" {
		return export{}, errors.New("a destination is missing")
	}
	if !strings.ContainsAny(text, ",=") {
		return export{kind: "local", dest: text}, nil
	}

	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return export{}, err
	}

	var e export
	given := map[string]bool{}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return e, fmt.Errorf("%q is not KEY=VALUE", field)
		}

		key = strings.ToLower(strings.TrimSpace(key))
		if key == "destination" {
			key = "dest"
		}
		if given[key] {
			return e, fmt.Errorf("%s is given twice", key)
		}

		given[key] = true
		if err := e.set(key, value); err != nil {
			return e, err
		}
	}

	return e, e.check()
}

func (e *export) set(key, value string) (err error) {
	switch key {
	case "type":
		e.kind = value
	case "dest":
		e.dest = value
	case "name":
		e.names = strings.Split(value, ",")
	case "push":
		e.push, err = strconv.ParseBool(value)
	case "tar":
		var archive bool
		archive, err = strconv.ParseBool(value)
		e.isDir = !archive
	case "mode":
		if value != "copy" {
			return fmt.Errorf("mode=%s is not supported: what is in the directory already stays", value)
		}
	case "compression", "compression-level", "force-compression":
		flag := map[string]string{"compression": "compression-format"}[key]
		if flag == "" {
			flag = key
		}
		return fmt.Errorf("%s is not supported here: use --%s", key, flag)
	default:
		return fmt.Errorf("%s is not supported (type, dest, name, push, tar and mode are)", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: want true or false", key, value)
	}

	return nil
}

// check refuses what does not fit together, and fills in what the type means.
func (e *export) check() error {
	switch e.kind {
	case "":
		return errors.New("a type is missing: type=local,dest=DIR, say")
	case "local":
		if e.dest == "" || e.dest == "-" {
			return errors.New("type=local needs dest=DIR")
		}
	case "tar":
		if e.dest == "" {
			e.dest = "-"
		}
	case "oci":
		if e.dest == "" {
			e.dest = "-"
		}
		if e.isDir && e.dest == "-" {
			return errors.New("tar=false needs dest=DIR")
		}
	case "docker": // without a destination: the image store, which is rbuild's own
	case "registry":
		e.kind, e.push = "image", true
	case "image", "cacheonly":
	default:
		return fmt.Errorf("type=%s is not supported (local, tar, oci, docker, image, registry and cacheonly are)", e.kind)
	}

	switch {
	case e.dest != "" && (e.kind == "image" || e.kind == "cacheonly"):
		return errors.New("dest is for types that write files")
	case len(e.names) > 0 && (e.kind == "local" || e.kind == "tar" || e.kind == "cacheonly"):
		return errors.New("name is for types that make an image")
	case len(e.names) > 1 && e.dest != "":
		return errors.New("an archive has the image under one name")
	case e.push && e.kind != "image":
		return errors.New("push is for type=image")
	case e.isDir && e.kind != "oci":
		return errors.New("tar=false is for type=oci")
	case strings.Contains(e.dest, ":") && (e.kind == "oci" || e.kind == "docker"):
		return errors.New("the path of an archive cannot hold a colon")
	}

	return nil
}

// checkStdout refuses that standard output be a terminal, or taken twice.
func (f *resultFlags) checkStdout() error {
	n := 0
	for _, e := range f.exports {
		if e.dest == "-" {
			n++
		}
	}

	switch {
	case n > 1:
		return errors.New("--output: only one can go to standard output")
	case n == 1 && progress.IsTerminal(stdoutFile()):
		return errors.New("--output: standard output is a terminal: send it to a file or a program, or give a destination")
	}

	return nil
}

// prepare looks at the destinations before anything is built, and returns what takes the files of the image.
func (f *resultFlags) prepare(own func(path string) error, warn func(string)) (outputs []builder.Output, err error) {
	for _, text := range f.notices {
		warn(text)
	}
	for _, file := range f.files() {
		if err := removeStale(file[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", file[0], err)
		}
	}

	for _, e := range f.exports {
		if e.dest != "" && e.dest != "-" {
			if err := checkDestination(e.dest, e.kind == "local" || e.isDir); err != nil {
				return nil, fmt.Errorf("--output: %w", err)
			}
		}
		switch e.kind {
		case "local":
			outputs = append(outputs, toDirectory(e.dest))
		case "tar":
			outputs = append(outputs, toFile(e.dest, own))
		}
	}

	return outputs, nil
}

// toDirectory writes the files below a directory, which is made if need be.
func toDirectory(path string) builder.Output {
	return func(ctx context.Context, r io.Reader) error {
		if err := os.MkdirAll(path, 0o700); err != nil { // as peers: files of an image are not for everybody
			return err
		}
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(copier.ExtractFiles(ctx, r, dir), dir.Close()); err != nil {
			return fmt.Errorf("to %s: %w", path, err)
		}
		return nil
	}
}

// toFile writes the tar to a file, or to standard output.
func toFile(path string, own func(path string) error) builder.Output {
	return func(ctx context.Context, r io.Reader) error { return writeResult(ctx, path, own, r) }
}

// transport returns the transport of the output, for example "oci-archive:". It is "" if the output holds no image, or if
// the image goes to the store.
func (e export) transport() string {
	switch {
	case e.dest == "":
		return ""
	case e.kind == "docker":
		return "docker-archive:"
	case e.kind == "oci" && e.isDir:
		return "oci:"
	case e.kind == "oci":
		return "oci-archive:"
	}
	return ""
}

// place is an output that holds an image, named by its transport; "": it is none, or the store's.
func (e export) place() string {
	transport := e.transport()
	switch {
	case transport == "":
		return ""
	case e.dest == "-" || filepath.IsAbs(e.dest):
		return transport + e.dest
	}
	return transport + "./" + e.dest // "oci:out" would be the name of an image
}

// copyImage writes an archive of the image, if that is what is asked for, under the first of its own names, else of names.
func (e export) copyImage(ctx context.Context, place imagePlace, id string, names []string, o transfer.PushOptions) (err error) {
	if e.transport() == "" {
		return nil
	}

	name := ""
	if len(names) > 0 {
		name = ":" + names[0]
	}
	if len(e.names) > 0 { // its own
		named, err := images.NormalizeTag(e.names[0])
		if err != nil {
			return err
		}
		name = ":" + named.String()
	}

	if e.isDir {
		_, err := place.Push(ctx, id, e.place()+name, o)
		return err
	}

	dir, release, err := place.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	temp := filepath.Join(dir, "archive")
	if _, err := place.Push(ctx, id, e.transport()+temp+name, o); err != nil {
		return err
	}

	in, err := os.Open(temp)
	if err != nil {
		return err
	}
	defer in.Close()

	return writeResult(ctx, e.dest, place.OwnFile, in)
}
