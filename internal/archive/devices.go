package archive

import "fmt"

// Devices counts the device nodes that were left out of an archive or a copy. The zero value counts
// none.
//
// rbuild never creates a device node of an image, a context or an archive: if real root builds,
// such a node could be a disk of the host.
type Devices struct {
	First string // path of the first device in its source, for example "dev/sda"
	Count int
}

// Add counts the device at path.
func (d *Devices) Add(path string) {
	if d.Count == 0 {
		d.First = path
	}
	d.Count++
}

// Text returns the warning about the devices, or "" if Count is 0.
func (d Devices) Text() string {
	switch d.Count {
	case 0:
		return ""
	case 1:
		return d.First + " is a device and left out"
	}
	return fmt.Sprintf("%d devices are left out, %s the first", d.Count, d.First)
}
