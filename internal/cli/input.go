package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// inputFlags name the Dockerfile and its ignore file.
type inputFlags struct {
	files      []string
	ignoreFile string
}

func (f *inputFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectInput, func(fs *pflag.FlagSet) {
		fs.StringArrayVarP(&f.files, "file", "f", nil,
			"Dockerfile, its URL, or - for standard input, e.g. build/Dockerfile; several are read as one")
		fs.StringVar(&f.ignoreFile, "ignorefile", "",
			"Ignore file in place of those of the Dockerfile and the context, e.g. ci.dockerignore")
	})
}

func (f *inputFlags) parse(_ *Host, b *spec.Build) error {
	stdin := 0
	for _, name := range f.files {
		switch {
		case name == "-":
			stdin++
		case name == "":
			return errors.New("--file: the name is empty")
		case strings.HasSuffix(name, ".in"):
			return fmt.Errorf("--file %s: text for the C preprocessor is not supported: "+
				"give the output of cpp -E -traditional", name)
		}
	}

	switch {
	case stdin > 1:
		return errors.New("--file - can be given once: there is one standard input")
	case stdin > 0 && b.Input.Context == "-":
		return errors.New("the Dockerfile and the context cannot both be standard input")
	}

	b.Input.Dockerfiles = f.files
	b.Input.From = "--file"
	b.Input.Remedy = "for the file of this machine give it on standard input: --file - < "
	b.Input.IgnoreFile = spec.File{Path: f.ignoreFile, From: "--ignorefile"}
	return nil
}
