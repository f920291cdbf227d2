package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Source says how a figure of Usage was measured.
type Source string

// The sources.
const (
	Cgroup Source = "cgroup" // all processes of the step together
	Rusage Source = "rusage" // getrusage(2): the processes that were waited for
)

// Usage is the use of the machine by a step. The names in JSON are public and do not change.
type Usage struct {
	CPUSeconds float64 `json:"cpuSeconds"` // user and system
	CPUSource  Source  `json:"cpuSource"`
	// Memory is in bytes. From Cgroup it is the peak of all processes together, with the page cache
	// of the files that they read and wrote. From Rusage it is the peak of the largest process.
	Memory       int64  `json:"memoryBytes"`
	MemorySource Source `json:"memorySource"`
	// Read and Written are bytes from and to disks. Bytes that the page cache had, or kept, do not
	// count.
	Read     int64  `json:"readBytes"`
	Written  int64  `json:"writtenBytes"`
	IOSource Source `json:"ioSource"`
}

// String returns the usage on one line: "cpu 0.80s, memory 12.3 MiB, read 4 KiB, written 1 MiB".
func (u *Usage) String() string { return strings.TrimPrefix(used(u), ", ") }

// used is the usage for the line that closes a step: ", cpu 0.8s, memory 12.3 MiB, read 4 KiB,
// written 1 MiB". What the largest process alone took is called so.
func used(u *Usage) string {
	if u == nil {
		return ""
	}
	memory := "memory"
	if u.MemorySource == Rusage {
		memory = "largest process"
	}
	return fmt.Sprintf(", cpu %s, %s %s, read %s, written %s", seconds(u.CPUSeconds), memory, size(u.Memory),
		size(u.Read), size(u.Written))
}

// seconds writes CPU time, of which most steps use little.
func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.2fs", s)
	}
	return human(time.Duration(s * float64(time.Second)))
}

// size writes bytes for people: 0 B, 4 KiB, 1.5 MiB.
func size(n int64) string {
	return units.CustomSize("%.4g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB"})
}
