package userns

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const fullMap = "         0          0 4294967295\n"

func TestParseIDMap(t *testing.T) {
	tests := []struct {
		name, text string
		want       []IDMap
		bad        bool
	}{
		{name: "initial", text: fullMap, want: []IDMap{{0, 0, 4294967295}}},
		{name: "rootless", text: "0 1001 1\n1 100000 65536\n", want: []IDMap{{0, 1001, 1}, {1, 100000, 65536}}},
		{name: "not written yet", text: ""},
		{name: "two fields", text: "0 1\n", bad: true},
		{name: "negative", text: "0 -1 1\n", bad: true},
		{name: "beyond 32 bits", text: "0 0 4294967296\n", bad: true},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseIDMap(tc.text)
			if (err != nil) != tc.bad {
				t.Fatalf("error %v, want one: %v", err, tc.bad)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if again, err := parseIDMap(formatIDMap(got)); err == nil && !cmp.Equal(again, got) {
				t.Errorf("round trip: %v", again)
			}
		})
	}
}

func TestParseSubids(t *testing.T) {
	text := strings.Join([]string{
		"# comment", "", "alice:100000:65536", "bob:165536:65536", "1000:300000:10", "alice:x:1", "alice:1", ":5:5",
		"alice:0:10", "alice:5:0", "alice:4294967290:4294967295", "  alice:400000:1  ", "alice:-1:5", "alice:99999999999:1",
		"alice:4294967295:1", "10000:7:7",
	}, "\n")

	got := parseSubids(text, "alice", 1000)
	want := subids{
		Mine: []idRange{{100000, 65536}, {300000, 10}, {4294967290, 5}, {400000, 1}},
		All:  []idRange{{100000, 65536}, {165536, 65536}, {300000, 10}, {4294967290, 5}, {400000, 1}, {7, 7}},
		Bad:  []int{6, 7, 8, 9, 10, 13, 14, 15},
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := parseSubids(text, "", 7).Mine; got != nil {
		t.Errorf("a user without name and entry gets %v", got)
	}
}

func TestParseGetsubids(t *testing.T) {
	got := parseGetsubids("0: alice 100000 65536\n1: alice 300000 5\nError fetching ranges\n2: alice x y\n")
	if diff := cmp.Diff([]idRange{{100000, 65536}, {300000, 5}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFreeRange(t *testing.T) {
	tests := []struct {
		name  string
		taken []idRange
		want  uint64
		full  bool
	}{
		{name: "empty", want: 100000},
		{name: "one", taken: []idRange{{100000, 65536}}, want: 165536},
		{name: "unsorted and overlapping", taken: []idRange{{165536, 65536}, {100000, 65536}, {120000, 100000}}, want: 231072},
		{name: "gap is used", taken: []idRange{{100000, 65536}, {231072, 65536}}, want: 165536},
		{name: "gap is too small", taken: []idRange{{100000, 65536}, {231071, 65536}}, want: 296607},
		{name: "below the minimum", taken: []idRange{{1000, 10}, {99999, 2}}, want: 100001},
		{name: "everything taken", taken: []idRange{{1, maxIDs}}, full: true},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := freeRange(tc.taken)
			if ok == tc.full {
				t.Fatalf("found %v: %v, want full: %v", got, ok, tc.full)
			}
			if ok && got != (idRange{tc.want, 65536}) {
				t.Errorf("got %v, want %d", got, tc.want)
			}
		})
	}
}

func TestUserMap(t *testing.T) {
	initial := []IDMap{{0, 0, initMap}}
	tests := []struct {
		name   string
		ranges []idRange
		parent []IDMap
		want   string
	}{
		{name: "usual", ranges: []idRange{{100000, 65536}}, parent: initial, want: "0 1000 1, 1 100000 65536"},
		{name: "sorted by start", ranges: []idRange{{300000, 5}, {100000, 7}}, parent: initial, want: "0 1000 1, 1 100000 7, 8 300000 5"},
		{name: "overlap", ranges: []idRange{{100000, 10}, {100005, 10}, {100002, 3}}, parent: initial, want: "0 1000 1, 1 100000 10, 11 100010 5"},
		{name: "around the own id", ranges: []idRange{{1, 65535}}, parent: initial, want: "0 1000 1, 1 1 999, 1000 1001 64535"},
		{name: "own id at the edges", ranges: []idRange{{999, 2}, {1000, 2}}, parent: initial, want: "0 1000 1, 1 999 1, 2 1001 1"},
		{name: "all there is", ranges: []idRange{{1, maxIDs}}, parent: initial, want: "0 1000 1, 1 1 999, 1000 1001 4294966294"},
		{name: "within a pod", ranges: []idRange{{100000, 65536}, {60000, 65536}}, parent: []IDMap{{0, 500000, 65536}}, want: "0 1000 1, 1 60000 5536"},
		{name: "across two extents", ranges: []idRange{{5, 10}}, parent: []IDMap{{0, 1000, 1}, {10, 1, 50}, {1, 100000, 9}}, want: "0 1000 1, 1 5 5, 6 10 5"},
		{name: "nothing here", ranges: []idRange{{100000, 65536}}, parent: []IDMap{{0, 1000, 1}}, want: "0 1000 1"},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got := strings.ReplaceAll(strings.TrimSpace(formatIDMap(userMap(1000, tc.ranges, tc.parent))), "\n", ", ")
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// FuzzSubids checks that any text of /etc/subuid gives a map that the kernel accepts.
func FuzzSubids(f *testing.F) {
	f.Add("alice:100000:65536\nbob:165536:65536\n", uint32(1000))
	f.Add("1000:1:4294967295\nalice:5:4294967295", uint32(1000))
	f.Add("alice:4294967294:1\n#:::\nalice:1:1:1", uint32(4294967294))
	f.Fuzz(func(t *testing.T, text string, uid uint32) {
		s := parseSubids(text, "alice", int(uid))
		if len(s.Mine) > len(s.All) {
			t.Fatalf("%d own ranges of %d", len(s.Mine), len(s.All))
		}
		m := userMap(int(uid), s.Mine, []IDMap{{0, 0, initMap}})
		next := uint64(0)
		outside := make([]idRange, 0, len(m))
		for _, e := range m {
			if uint64(e.Inside) != next || e.Size == 0 {
				t.Fatalf("extent %v does not begin at %d", e, next)
			}
			next += uint64(e.Size)
			outside = append(outside, idRange{uint64(e.Outside), uint64(e.Size)})
		}

		if next > maxIDs {
			t.Fatalf("%d ids", next)
		}
		slices.SortFunc(outside, func(a, b idRange) int { return int(int64(a.Start) - int64(b.Start)) })
		for i := 1; i < len(outside); i++ {
			if outside[i].Start < outside[i-1].end() {
				t.Fatalf("extents overlap: %v", m)
			}
		}

		if again, err := parseIDMap(formatIDMap(m)); err != nil || !cmp.Equal(again, m) {
			t.Fatalf("round trip: %v, %v", again, err)
		}
		if r, ok := freeRange(s.All); ok {
			if clash := within(disjoint(s.All), []idRange{r}); clash != nil {
				t.Fatalf("free range %v holds %v", r, clash)
			}
		}
	})
}

func TestBuilderEnv(t *testing.T) {
	env := []string{"HOME=/h", envConfigured + "=1", envUID + "=7", envGID + "=8"}
	s := standing{UID: 1000, GID: 100}
	set := []string{"HOME=/h", envConfigured + "=done", envUID + "=1000", envGID + "=100", "X=y"}
	tests := []struct {
		mode Mode
		want []string
	}{
		{Root, []string{"HOME=/h", "X=y"}},
		{Identity, append(slices.Clone(env), "X=y")},
		{Helper, set},
		{Direct, set},
		{Single, set},
	}

	for _, tc := range tests {
		t.Run(string(tc.mode), func(t *testing.T) {
			if diff := cmp.Diff(tc.want, builderEnv(env, tc.mode, s, []string{"X=y"})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
