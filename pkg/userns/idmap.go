package userns

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	nogroup = 65534     // the ID of nobody and nogroup, which files of images have
	maxIDs  = 1<<32 - 1 // IDs have 32 bits; the last is -1, "no ID", and is never mapped
	initMap = maxIDs    // size of the extent in the map of the initial namespace
)

// idRange is a range of IDs. The end can be 1<<32, which needs 64 bits.
type idRange struct{ Start, Count uint64 }

func (r idRange) end() uint64 { return r.Start + r.Count }

// parseIDMap parses the text of /proc/PID/uid_map or gid_map.
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

// formatIDMap returns the text for /proc/PID/uid_map.
func formatIDMap(m []IDMap) string {
	var b strings.Builder
	for _, e := range m {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// contains reports whether id exists in a namespace with the map m.
func contains(m []IDMap, id uint32) bool {
	return slices.ContainsFunc(m, func(e IDMap) bool { return id >= e.Inside && id-e.Inside < e.Size })
}

// count returns the number of IDs in the map.
func count(m []IDMap) uint64 {
	var n uint64
	for _, e := range m {
		n += uint64(e.Size)
	}
	return n
}

// total returns the number of IDs in disjoint ranges.
func total(ranges []idRange) uint64 {
	var n uint64
	for _, r := range ranges {
		n += r.Count
	}
	return n
}

// identity maps each ID of m to itself, extent by extent: the kernel refuses an extent that spans
// two extents of the parent.
func identity(m []IDMap) []IDMap {
	out := make([]IDMap, len(m))
	for i, e := range m {
		out[i] = IDMap{Inside: e.Inside, Outside: e.Inside, Size: e.Size}
	}
	return out
}

// insides returns the IDs that exist in a namespace with the map m.
func insides(m []IDMap) []idRange {
	out := make([]idRange, len(m))
	for i, e := range m {
		out[i] = idRange{uint64(e.Inside), uint64(e.Size)}
	}
	return out
}

// disjoint sorts ranges by their start and removes overlaps, which the kernel refuses. Podman and
// buildah sort too: with the same order, IDs on disk agree. Adjacent ranges are not joined, because
// old versions of newuidmap compare each range with a line of the file.
func disjoint(ranges []idRange) []idRange {
	sorted := slices.SortedFunc(slices.Values(ranges), func(a, b idRange) int { return cmp.Compare(a.Start, b.Start) })
	var out []idRange
	next := uint64(0)
	for _, r := range sorted {
		start := max(r.Start, next)
		end := min(r.end(), maxIDs)
		if start < end {
			out = append(out, idRange{start, end - start})
			next = end
		}
	}
	return out
}

// without removes an ID from disjoint ranges.
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

// within returns the parts of disjoint ranges that are in an allowed range.
func within(ranges, allowed []idRange) []idRange {
	var out []idRange
	for _, r := range ranges {
		for _, a := range disjoint(allowed) {
			start := max(r.Start, a.Start)
			end := min(r.end(), a.end())
			if start < end {
				out = append(out, idRange{start, end - start})
			}
		}
	}
	return out
}

// userMap maps 0 to the ID own of the user, and 1 and higher IDs to the subordinate ranges. Ranges
// that do not exist in a namespace with the map parent are left out.
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
