package bounded_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"codeberg.org/rbuild/rbuild/internal/bounded"
)

func TestReadAll(t *testing.T) {
	broken := errors.New("broken")
	for _, tc := range []struct {
		name  string
		in    io.Reader
		limit int64
		want  string
		err   string
	}{
		{"empty", strings.NewReader(""), 0, "", ""},
		{"shorter", strings.NewReader("abc"), 4, "abc", ""},
		{"at the limit", strings.NewReader("abc"), 3, "abc", ""},
		{"longer by a byte", strings.NewReader("abcd"), 3, "", "x has more than 3 bytes"},
		{"limit 0", strings.NewReader("a"), 0, "", "x has more than 0 bytes"},
		{"byte by byte", iotest.OneByteReader(strings.NewReader("abcd")), 3, "", "x has more than 3 bytes"},
		{"end with the data", iotest.DataErrReader(strings.NewReader("abc")), 3, "abc", ""},
		{"error of the source", io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), 3, "", "broken"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := bounded.ReadAll(tc.in, tc.limit, "x")
			if string(got) != tc.want || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
				t.Errorf("got %q, %v; want %q, %s", got, err, tc.want, tc.err)
			}
		})
	}
}

// TestReaderStops: nothing behind the limit is handed out, and no more than a byte behind it is read.
func TestReaderStops(t *testing.T) {
	in := strings.NewReader("abcdefgh")
	r := bounded.Reader(in, 3, "x")
	var got strings.Builder
	_, err := io.Copy(&got, r)
	if got.String() != "abc" || err == nil || in.Len() != 4 {
		t.Errorf("got %q, %v, %d bytes left", got.String(), err, in.Len())
	}
	if n, again := r.Read(make([]byte, 1)); n != 0 || again == nil {
		t.Errorf("read again: %d, %v", n, again)
	}
}
