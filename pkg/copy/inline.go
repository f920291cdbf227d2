package copy

import (
	"crypto/sha256"
	"path"
	"time"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// inlineItem makes a source of the text of a here-document.
func inlineItem(f File) *item {
	data := append([]byte{}, f.Data...) // not nil
	now := time.Now()
	return &item{
		name: path.Base(f.Name), source: f.Name, data: data,
		node: &node{
			name: path.Base(f.Name), sum: sha256.Sum256(data),
			stat: linux.Stat{
				Type: linux.Regular, Mode: 0o644, Nlink: 1, Size: int64(len(data)),
				Mtime: linux.Time{Sec: now.Unix(), Nsec: int64(now.Nanosecond())},
			},
		},
	}
}
