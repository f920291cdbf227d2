package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// idFlags say which user and group ids RUN knows. The files of an image have on disk the owners that they have in it, by the
// ids of the builder's user namespace, so that no id can stand for another one: a map can only leave some out.
type idFlags struct {
	userns     string
	uids, gids []string
}

func (f *idFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.userns, "userns", "", "private (default) or host: RUN has the ids of the namespace that rbuild makes")
	fs.StringSliceVar(&f.uids, "userns-uid-map", nil, "ID:ID:COUNT, the user ids that RUN knows; as they are, and 0 among them")
	fs.StringSliceVar(&f.gids, "userns-gid-map", nil, "the same for group ids; one of the two stands for both")
}

func (f *idFlags) apply(c *runner.Security) (err error) {
	switch how, _, _ := strings.Cut(f.userns, ":"); how {
	case "", "private", "container":
	case "host":
		if len(f.uids)+len(f.gids) > 0 {
			return errors.New("--userns=host has no maps: leave --userns-uid-map and --userns-gid-map out")
		}
	case "auto", "keep-id", "nomap":
		return fmt.Errorf("--userns=%s is not supported: it gives RUN other ids than the files of the image have; private and host are", f.userns)
	default:
		return fmt.Errorf("--userns=%s is not supported: RUN has a user namespace of its own; choose private or host", f.userns)
	}

	if c.UIDs, err = parseIDs("--userns-uid-map", f.uids); err != nil {
		return err
	}
	if c.GIDs, err = parseIDs("--userns-gid-map", f.gids); err != nil {
		return err
	}

	switch { // as with buildah
	case len(c.UIDs) == 0:
		c.UIDs = c.GIDs
	case len(c.GIDs) == 0:
		c.GIDs = c.UIDs
	}

	return nil
}

// maxIDRanges is how many the kernel takes (user_namespaces(7)).
const maxIDRanges = 340

// parseIDs reads CONTAINER:HOST:COUNT, several with commas or colons between them.
func parseIDs(flag string, list []string) (out []sandbox.IDRange, err error) {
	zero := false
	text := strings.Join(list, ",")
	numbers := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == ',' })
	for i := 0; i < len(numbers); i += 3 {
		var n [3]uint64
		for k := range n {
			err := errors.New("")
			if i+k < len(numbers) {
				n[k], err = strconv.ParseUint(numbers[i+k], 10, 32)
			}
			if err != nil {
				return nil, fmt.Errorf("%s %q: want ID:ID:COUNT, e.g. 0:0:1000", flag, text)
			}
		}

		r := sandbox.IDRange{First: uint32(n[0]), Count: uint32(n[2])}
		switch {
		case n[0] != n[1]:
			return nil, fmt.Errorf("%s %q: id %d cannot be %d on disk: the store keeps the ids of the image; choose ID:ID:COUNT", flag, text, n[0], n[1])
		case n[2] == 0 || n[0]+n[2] > 1<<32-1:
			return nil, fmt.Errorf("%s %q: %d ids from %d on are none, or beyond the last", flag, text, n[2], n[0])
		case overlaps(out, r):
			return nil, fmt.Errorf("%s %q: an id is given twice", flag, text)
		}

		zero = zero || r.First == 0
		out = append(out, r)
	}

	if len(out) > maxIDRanges || len(out) > 0 && !zero {
		return nil, fmt.Errorf("%s %q: id 0 must be among them, and %d ranges at most", flag, text, maxIDRanges)
	}

	return out, nil
}

func overlaps(list []sandbox.IDRange, r sandbox.IDRange) bool {
	var n uint64
	for _, o := range list {
		n += common(o, r)
	}
	return n > 0
}

// common is how many ids two ranges have in common.
func common(a, b sandbox.IDRange) uint64 {
	start := max(a.First, b.First)
	end := min(uint64(a.First)+uint64(a.Count), uint64(b.First)+uint64(b.Count))
	return max(end, uint64(start)) - uint64(start)
}

// check refuses what only the builder can know: ids that it does not have.
func (f *idFlags) check(c *runner.Security, state *userns.State) error {
	if f.userns == "host" && !state.Rootless() {
		return errors.New("--userns=host: rbuild runs as root, and RUN has a user namespace of its own all the same")
	}

	for _, m := range []struct {
		flag string
		want []sandbox.IDRange
		have []userns.IDMap
	}{{"--userns-uid-map", c.UIDs, state.UIDMap}, {"--userns-gid-map", c.GIDs, state.GIDMap}} {
		for _, r := range m.want {
			var n uint64
			var ranges []string
			for _, e := range m.have {
				n += common(r, sandbox.IDRange{First: e.Inside, Count: e.Size})
				ranges = append(ranges, fmt.Sprintf("%d-%d", e.Inside, uint64(e.Inside)+uint64(e.Size)-1))
			}
			if n < uint64(r.Count) {
				return fmt.Errorf("%s %d:%d:%d: the builder has only the ids %s", m.flag, r.First, r.First, r.Count, strings.Join(ranges, ", "))
			}
		}
	}

	return nil
}

// namespaceFlags are buildah's for the other namespaces.
type namespaceFlags struct{ pid, ipc, uts, cgroup string }

func (f *namespaceFlags) register(fs *pflag.FlagSet) {
	for _, n := range f.all() {
		fs.StringVar(n.value, n.name, "", "private (default): RUN has "+n.what+" of its own")
	}
	fs.StringVar(&f.cgroup, "cgroupns", "", "private (default where RUN has a cgroup of its own) or host: where the names of cgroups begin for RUN")
}

type namespaceFlag struct {
	name, what string
	value      *string
	reach      string // what RUN would reach in the host's
}

func (f *namespaceFlags) all() []namespaceFlag {
	return []namespaceFlag{
		{"pid", "a PID namespace", &f.pid, "could signal the builder, and what it leaves running would not end with it"},
		{"ipc", "an IPC namespace", &f.ipc, "would share memory with the user's other programs"},
		{"uts", "a UTS namespace", &f.uts, "would see the machine's name, and the build would depend on it"},
	}
}

// cgroupNames is what RUN sees of cgroups; usual is what containers.conf says.
func (f *namespaceFlags) cgroupNames(usual string) sandbox.CgroupNames {
	switch cmp.Or(f.cgroup, usual) {
	case "host":
		return sandbox.CgroupHost
	case "private", "container":
		return sandbox.CgroupPrivate
	}
	return sandbox.CgroupAuto
}

func (f *namespaceFlags) check() error {
	if !slices.Contains([]string{"", "host", "private", "container"}, f.cgroup) {
		return fmt.Errorf("--cgroupns=%s is not supported: choose host or private", f.cgroup)
	}

	for _, n := range f.all() {
		switch how := *n.value; how {
		case "", "private", "container":
		case "host":
			return fmt.Errorf("--%s=host is not supported: RUN %s; it has %s of its own", n.name, n.reach, n.what)
		default:
			return fmt.Errorf("--%s=%s is not supported: RUN has %s of its own; private is the only choice", n.name, how, n.what)
		}
	}

	return nil
}
