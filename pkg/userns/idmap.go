package userns

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	nogroup = 65534     // nobody and nogroup of every distribution; images own files by it and chown to it
	maxIDs  = 1<<32 - 1 // ids are 32 bits; the last one is -1, "no id", and is never mapped
	initMap = maxIDs    // size of the one extent of the initial namespace's map
)

// idRange is a run of ids. Ends may lie at 1<<32, hence the wide type.
type idRange struct{ Start, Count uint64 }

func (r idRange) end() uint64 { return r.Start + r.Count }

// parseIDMap reads the text of /proc/PID/uid_map or gid_map.
func parseIDMap(text string) ([]IDMap, error) {
	var out []IDMap
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("id map has %d fields in line %q, want 3", len(fields), strings.TrimSpace(line))
		}

		var n [3]uint32
		for i, s := range fields {
			v, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("parsing id map: %w", err)
			}
			n[i] = uint32(v)
		}
		out = append(out, IDMap{Inside: n[0], Outside: n[1], Size: n[2]})
	}

	return out, nil
}

// formatIDMap is the text that is written to /proc/PID/uid_map.
func formatIDMap(m []IDMap) string {
	var b strings.Builder
	for _, e := range m {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// contains tells whether id has a meaning inside.
func contains(m []IDMap, id uint32) bool {
	return slices.ContainsFunc(m, func(e IDMap) bool { return id >= e.Inside && id-e.Inside < e.Size })
}

// count returns how many ids the map holds.
func count(m []IDMap) uint64 {
	var n uint64
	for _, e := range m {
		n += uint64(e.Size)
	}
	return n
}

// total returns how many ids disjoint ranges hold.
func total(ranges []idRange) uint64 {
	var n uint64
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

// identity maps every id of m to itself, extent by extent: the kernel refuses one line across two of the parent's.
func identity(m []IDMap) []IDMap {
	out := make([]IDMap, len(m))
	for i, e := range m {
		out[i] = IDMap{Inside: e.Inside, Outside: e.Inside, Size: e.Size}
	}
	return out
}

// insides returns the ids that exist in a namespace with map m.
func insides(m []IDMap) []idRange {
	out := make([]idRange, len(m))
	for i, e := range m {
		out[i] = idRange{uint64(e.Inside), uint64(e.Size)}
	}
	return out
}

// disjoint sorts ranges by their start, as podman and buildah do with the same files (the numbers on disk must agree),
// and removes overlaps, which the kernel refuses. Adjacent ranges stay apart: old newuidmaps check line by line.
func disjoint(ranges []idRange) []idRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b idRange) int { return cmp.Compare(a.Start, b.Start) })
	var out []idRange
	next := uint64(0)
	for _, r := range sorted {
		start, end := max(r.Start, next), min(r.end(), maxIDs)
		if start < end {
			out = append(out, idRange{start, end - start})
			next = end
		}
	}
	return out
}

// without cuts one id out of disjoint ranges.
func without(ranges []idRange, id uint64) []idRange {
	var out []idRange
	for _, r := range ranges {
		if id < r.Start || id >= r.end() {
			out = append(out, r)
			continue
		}
		if id > r.Start {
			out = append(out, idRange{r.Start, id - r.Start})
		}
		if id+1 < r.end() {
			out = append(out, idRange{id + 1, r.end() - id - 1})
		}
	}

	return out
}

// within keeps the parts of disjoint ranges that lie in one of the allowed ranges.
func within(ranges, allowed []idRange) []idRange {
	var out []idRange
	for _, r := range ranges {
		for _, a := range disjoint(allowed) {
			start, end := max(r.Start, a.Start), min(r.end(), a.end())
			if start < end {
				out = append(out, idRange{start, end - start})
			}
		}
	}
	return out
}

// userMap maps 0 to the user's own id and 1 onwards to the ranges that are subordinate to it, as far as they exist in
// the namespace whose map is parent.
func userMap(own int, ranges []idRange, parent []IDMap) []IDMap {
	usable := within(without(disjoint(ranges), uint64(own)), insides(parent))
	out := []IDMap{{Inside: 0, Outside: uint32(own), Size: 1}}
	next := uint64(1)
	for _, r := range usable {
		size := min(r.Count, maxIDs-next)
		if size == 0 {
			break
		}
		out = append(out, IDMap{Inside: uint32(next), Outside: uint32(r.Start), Size: uint32(size)})
		next += size
	}

	return out
}
