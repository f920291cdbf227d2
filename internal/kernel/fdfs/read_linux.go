package fdfs

import (
	"fmt"
	"io/fs"
	"os"

	"codeberg.org/rbuild/rbuild/internal/bounded"
)

// ReadFile returns the content of the regular file path below root, for example "/etc/passwd".
// Symbolic links resolve inside root. A file of another type is an error, which ReadFile returns
// without waiting for a writer of a fifo. A file of more than limit bytes is an error too.
func ReadFile(root Dir, path string, limit int64) ([]byte, error) {
	c := NewCursor(root)
	defer c.Close()

	name, st, err := c.Resolve(path, nil)
	if err != nil {
		return nil, err
	}
	if st.Type == Unknown {
		return nil, &os.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if st.Type != Regular {
		return nil, fmt.Errorf("%s is a %s", path, st.Type)
	}

	f, st, err := c.Dir().OpenFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st.Type != Regular { // replaced meanwhile
		return nil, fmt.Errorf("%s is a %s", path, st.Type)
	}

	return bounded.ReadAll(f, limit, path)
}
