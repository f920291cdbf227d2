package userns

import (
	"strconv"
	"strings"
)

// subids are the ranges of one file of subordinate ids.
type subids struct {
	Mine []idRange // of the user that was asked for, in the order of the file
	All  []idRange // of everybody: what a new range must keep clear of
	Bad  []int     // numbers of the lines that are no entry; the first line is 1
}

// parseSubids reads /etc/subuid or /etc/subgid (subuid(5)): lines "login-or-uid:start:count". Lines that do not parse
// are left out, as shadow does, and reported by number: a stranger's typing error must not stop this user.
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

// parseGetsubids reads what getsubids(1) prints: "0: alice 100000 65536".
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

// parseRange refuses empty ranges and those that begin with root's id or end beyond the last id.
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

// Where useradd(8) looks for room: SUB_UID_MIN, SUB_UID_MAX and SUB_UID_COUNT of login.defs(5), as they are by default.
const (
	subidMin   = 100000
	subidMax   = 600100000
	subidCount = 65536
)

// freeRange returns the first 65536 ids from 100000 on that no range of taken holds.
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
