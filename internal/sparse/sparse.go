// Package sparse holds the threshold and the text of the warning about files with large holes. A
// sparse file takes little space on disk, but a layer contains all bytes of the file, so that
// digesting the file takes long.
package sparse

import (
	"fmt"
	"path"

	"github.com/docker/go-units"
)

// Large is the number of bytes in holes from which a file deserves a warning.
const Large = 1 << 30

// Warning returns the warning about a sparse file: with the name, the size and the size of the
// data, both in bytes, and the remedy. Example of a name: "/var/log/lastlog".
func Warning(name string, size, data int64) string {
	text := fmt.Sprintf(
		"%s is a sparse file: of its %s only %s are data, but a layer holds all of it, and digesting it takes long",
		name,
		units.BytesSize(float64(size)),
		units.BytesSize(float64(data)),
	)
	if base := path.Base(name); base == "lastlog" || base == "faillog" {
		return text + "; a large user id makes it so: " +
			"give useradd --no-log-init (-l), or remove the file in the same step"
	}
	return text + "; shorten it, or remove it in the same step"
}
