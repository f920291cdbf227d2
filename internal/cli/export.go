package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// exportRegistry is docker's word for an image that is pushed to its names.
const exportRegistry = "registry"

// parseExport reads one --output: a directory, - for a tar on standard output, or pairs such as type=oci,dest=app.tar,
// separated and quoted as in CSV.
func parseExport(text string) (e spec.Export, err error) {
	if text == "-" {
		return spec.Export{Kind: spec.ExportTar, Dest: "-"}, nil
	}
	if text == "" {
		return e, errors.New("a destination is missing")
	}
	if !strings.ContainsAny(text, ",=") {
		return spec.Export{Kind: spec.ExportLocal, Dest: text}, nil
	}

	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return e, err
	}

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
		if err := setExport(&e, key, value); err != nil {
			return e, err
		}
	}

	if err := completeExport(&e); err != nil {
		return e, err
	}
	return e, checkExport(e)
}

func setExport(e *spec.Export, key, value string) (err error) {
	switch key {
	case "type":
		e.Kind = value
	case "dest":
		e.Dest = value
	case "name":
		e.Names = strings.Split(value, ",")
	case "push":
		e.Push, err = strconv.ParseBool(value)
	case "tar":
		var archive bool
		archive, err = strconv.ParseBool(value)
		e.IsDir = !archive
	case "mode":
		if value != "copy" {
			return fmt.Errorf("mode=%s is not supported: what is in the directory already stays", value)
		}
	case "compression":
		return fmt.Errorf("%s is not supported here: use --compression-format", key)
	case "compression-level", "force-compression":
		return fmt.Errorf("%s is not supported here: use --%s", key, key)
	default:
		return fmt.Errorf("%s is not supported (type, dest, name, push, tar and mode are)", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: want true or false", key, value)
	}
	return nil
}

// completeExport fills in the values that the kind implies, and refuses a kind that is not known.
func completeExport(e *spec.Export) error {
	switch e.Kind {
	case "":
		return errors.New("a type is missing: type=local,dest=DIR, say")
	case spec.ExportLocal:
		if e.Dest == "" || e.Dest == "-" {
			return errors.New("type=local needs dest=DIR")
		}
	case spec.ExportTar:
		if e.Dest == "" {
			e.Dest = "-"
		}
	case spec.ExportOCI:
		if e.Dest == "" {
			e.Dest = "-"
		}
		if e.IsDir && e.Dest == "-" {
			return errors.New("tar=false needs dest=DIR")
		}
	case exportRegistry:
		e.Kind = spec.ExportImage
		e.Push = true
	case spec.ExportDocker, spec.ExportImage, spec.ExportCacheOnly:
	default:
		return fmt.Errorf("type=%s is not supported (local, tar, oci, docker, image, registry and cacheonly are)",
			e.Kind)
	}
	return nil
}

// checkExport refuses values that contradict the kind.
func checkExport(e spec.Export) error {
	switch {
	case e.Dest != "" && (e.Kind == spec.ExportImage || e.Kind == spec.ExportCacheOnly):
		return errors.New("dest is for types that write files")
	case len(e.Names) > 0 && withoutImage(e):
		return errors.New("name is for types that make an image")
	case len(e.Names) > 1 && e.Dest != "":
		return errors.New("an archive has the image under one name")
	case e.Push && e.Kind != spec.ExportImage:
		return errors.New("push is for type=image")
	case e.IsDir && e.Kind != spec.ExportOCI:
		return errors.New("tar=false is for type=oci")
	case strings.Contains(e.Dest, ":") && (e.Kind == spec.ExportOCI || e.Kind == spec.ExportDocker):
		return errors.New("the path of an archive cannot hold a colon")
	}
	return nil
}

// withoutImage reports whether the export needs no image to be recorded.
func withoutImage(e spec.Export) bool {
	return e.Kind == spec.ExportLocal || e.Kind == spec.ExportTar || e.Kind == spec.ExportCacheOnly
}
