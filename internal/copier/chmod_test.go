package copier

import "testing"

// TestChmod: modes have the results of chmod(1) of GNU with umask 0.
func TestChmod(t *testing.T) {
	for _, tc := range []struct {
		spec string
		mode uint32
		dir  bool
		want uint32
	}{
		{"", 0o4751, false, 0o4751},
		{"755", 0o600, false, 0o755},
		{"0", 0o600, false, 0},
		{"07777", 0o600, true, 0o7777},
		{"u=rwX,go=rX", 0o600, false, 0o644},
		{"u=rwX,go=rX", 0o700, false, 0o755},
		{"u=rwX,go=rX", 0o600, true, 0o755},
		{"a+x", 0o644, false, 0o755},
		{"+x", 0o644, false, 0o755},
		{"go-rwx", 0o777, false, 0o700},
		{"g=u,o=g-w", 0o640, false, 0o664},
		{"ug+s,+t", 0o755, false, 0o7755},
		{"u+s", 0o755, false, 0o4755},
		{"o+s", 0o755, false, 0o755},
		{"u+t", 0o755, false, 0o755},
		{"o+t", 0o755, false, 0o1755},
		{"go=rX", 0o1777, true, 0o755},
		{"u-s", 0o6755, false, 0o2755},
		{"u=rw", 0o6755, false, 0o2655},
		{"u=rw", 0o6755, true, 0o6655},
		{"g=s", 0o755, false, 0o2705},
		{"a=", 0o7777, false, 0},
		{"u+r-w+x", 0o200, false, 0o500},
	} {
		t.Run(tc.spec, func(t *testing.T) {
			c, err := parseChmod(tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.apply(tc.mode, tc.dir); got != tc.want {
				t.Errorf("%04o becomes %04o, want %04o", tc.mode, got, tc.want)
			}
		})
	}

	for _, spec := range []string{"10000", "888", "0x1", "u", "u=rwz", "=rw,", ",", "b+x", "u=gr", " 755", "u+x o+x", "99999999999"} {
		if c, err := parseChmod(spec); err == nil {
			t.Errorf("%q is accepted as %+v", spec, c)
		}
	}
}
