package fdfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ReadFile returns the content of the regular file path below root, for example "/etc/passwd". Symbolic links resolve inside
// root. A file of another type is an error, which ReadFile returns without waiting for a writer of a fifo. A file of more than
// limit bytes is an error too.
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
	return ReadBounded(f, path, limit)
}

// ReadBounded reads r to its end. More than limit bytes are an error, in which name stands for r.
func ReadBounded(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	return data, nil
}
