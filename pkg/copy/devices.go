package copy

import "fmt"

// Devices are the device nodes that were left out of what was copied or unpacked. The zero value is none.
//
// No device node of an image, a context or an archive is ever made: where real root builds, a node that an image brings
// would be the disk of the host.
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

// Text is the warning about them; "" if there is none.
func (d Devices) Text() string {
	switch d.Count {
	case 0:
		return ""
	case 1:
		return d.First + " is a device and left out"
	}
	return fmt.Sprintf("%d devices are left out, %s the first", d.Count, d.First)
}
