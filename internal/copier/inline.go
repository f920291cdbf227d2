package copier

import (
	"crypto/sha256"
	"path"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// inlineItem makes a source of the text of a here-document.
func inlineItem(f File) *item {
	data := append([]byte{}, f.Data...) // not nil
	now := time.Now()
	return &item{
		name: path.Base(f.Name), source: f.Name, data: data,
		node: &node{
			name: path.Base(f.Name), sum: sha256.Sum256(data),
			stat: fdfs.Stat{
				Type: fdfs.Regular, Mode: 0o644, Nlink: 1, Size: int64(len(data)),
				Mtime: fdfs.Time{Sec: now.Unix(), Nsec: int64(now.Nanosecond())},
			},
		},
	}
}
