package userns

import (
	"strconv"
	"strings"
)

// subids holds the ranges in /etc/subuid or /etc/subgid.
type subids struct {
	Mine []idRange // of the user, in the order of the file
	All  []idRange // of all users: a new range must not overlap them
	Bad  []int     // line numbers, from 1, of the lines that cannot be parsed
}

// parseSubids parses the text of /etc/subuid or /etc/subgid, subuid(5). A line is LOGIN:START:COUNT
// or UID:START:COUNT, for example "alice:100000:65536". Lines that cannot be parsed are ignored, as
// shadow does, and reported in Bad: an error in the line of another user must not stop this user.
func parseSubids(text, name string, uid int) subids {
	var out subids
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		owner, r, ok := parseSubidLine(line)
		if !ok {
			out.Bad = append(out.Bad, number)
			continue
		}

		out.All = append(out.All, r)
		if owner == strconv.Itoa(uid) || (name != "" && owner == name) {
			out.Mine = append(out.Mine, r)
		}
	}

	return out
}

func parseSubidLine(line string) (owner string, r idRange, ok bool) {
	fields := strings.Split(line, ":")
	if len(fields) != 3 || fields[0] == "" {
		return "", idRange{}, false
	}
	r, ok = parseRange(fields[1], fields[2])
	return fields[0], r, ok
}

// parseGetsubids parses the output of getsubids(1), for example "0: alice 100000 65536".
func parseGetsubids(text string) []idRange {
	var out []idRange
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			continue
		}
		if r, ok := parseRange(fields[2], fields[3]); ok {
			out = append(out, r)
		}
	}
	return out
}

// parseRange rejects an empty range and a range with ID 0. It shortens a range that exceeds the
// last ID.
func parseRange(start, count string) (idRange, bool) {
	s, err := strconv.ParseUint(start, 10, 32)
	if err != nil || s == 0 {
		return idRange{}, false
	}
	c, err := strconv.ParseUint(count, 10, 32)
	if err != nil || c == 0 {
		return idRange{}, false
	}
	return idRange{s, min(c, maxIDs-s)}, s < maxIDs
}

// The defaults of SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT in login.defs(5), which useradd(8)
// uses.
const (
	subidMin   = 100000
	subidMax   = 600100000
	subidCount = 65536
)

// freeRange returns the first 65536 IDs from 100000 on that are not in taken, and false if there
// are none.
func freeRange(taken []idRange) (idRange, bool) {
	start := uint64(subidMin)
	for _, r := range disjoint(taken) {
		if r.Start >= start+subidCount {
			break
		}
		start = max(start, r.end())
	}
	return idRange{start, subidCount}, start+subidCount <= subidMax
}
