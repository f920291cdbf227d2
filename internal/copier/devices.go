package copier

import "fmt"

// Devices counts the device nodes that were left out of a copy or an archive. The zero value counts none.
//
// rbuild never creates a device node of an image, a context or an archive: if real root builds, such a node could be a disk
// of the host.
type Devices struct {
	First string // name of the first, as the source has it
	Count int
}

func (d *Devices) add(name string) {
	if d.Count == 0 {
		d.First = name
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
