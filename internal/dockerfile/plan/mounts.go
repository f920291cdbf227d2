package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Default directories of secrets and of the sockets of agents.
const (
	secretsDir = "/run/secrets"
	socketsDir = "/run/rbuild"
)

// mounts reads the --mount flags of a RUN after the variables were replaced.
func (sc *Scope) mounts(in located, flags []instructions.MountFlag) ([]Mount, error) {
	var out []Mount
	at := map[string]int{} // target -> index in out
	for i, flag := range flags {
		m, err := sc.mount(in, flag, i)
		if err != nil {
			return nil, err
		}
		if earlier, ok := at[m.Target]; ok {
			out[earlier].Target = "" // the later mount hides the earlier mount; the variable of a secret stays
		}
		at[m.Target] = len(out)
		out = append(out, m)
	}

	out = slices.DeleteFunc(out, func(m Mount) bool { return m.Target == "" && m.Env == nil })
	slices.SortStableFunc(out, func(a, b Mount) int {
		return slices.Compare(strings.Split(a.Target, "/"), strings.Split(b.Target, "/"))
	})
	return out, nil
}

// mount reads one --mount flag.
func (sc *Scope) mount(in located, flag instructions.MountFlag, number int) (Mount, error) {
	read, err := flag.Mount()
	if err != nil {
		return Mount{}, err
	}

	m := Mount{Mount: read, Number: number}
	if space := sc.stage.plan.options.BuildArgs[argCacheSpace]; space != "" && m.Type == instructions.MountCache {
		m.ID = space + "/" + m.ID
	}
	if m.From != "" {
		src, err := sc.stage.source(in.file, in.Range, mountFrom, m.From)
		if err != nil {
			return Mount{}, err
		}
		m.Files = &src
	}

	m.Target, err = sc.mountTarget(m)
	return m, err
}

// mountTarget returns the absolute mount point. A relative target is below WORKDIR.
func (sc *Scope) mountTarget(m Mount) (string, error) {
	target := m.Target
	switch m.Type {
	case instructions.MountSecret:
		if target == "" && m.Env != nil {
			return "", nil
		}
		if target == "" {
			target = path.Join(secretsDir, path.Base(path.Join("/", m.ID)))
		}
	case instructions.MountSSH:
		if target == "" {
			target = fmt.Sprintf("%s/ssh_agent.%d", socketsDir, m.Number)
		}
	}

	if !path.IsAbs(target) {
		target = path.Join("/", sc.image.Config.WorkingDir, target)
	}
	if target = path.Clean(target); target == "/" {
		return "", fmt.Errorf("--mount: the target is the root directory: give one below it with target=")
	}

	return target, nil
}

// canonMounts encodes all options of the mounts. The encoding has neither the files of a mount nor
// the value of a secret, which never enters a key.
func canonMounts(mounts []Mount) string {
	var fields []string
	for _, m := range mounts {
		env := ""
		if m.Env != nil {
			env = "=" + *m.Env
		}
		all := []string{
			m.Type,
			m.From,
			path.Join("/", m.Source),
			m.Target,
			strconv.FormatBool(m.ReadOnly),
			m.ID,
			m.Sharing,
			strconv.FormatInt(m.Size, 10),
			env,
			strconv.FormatBool(m.Required),
			number(m.Mode),
			number(m.UID),
			number(m.GID),
		}
		fields = append(fields, canon(append(all, slices.Sorted(slices.Values(m.Attributes))...)...))
	}

	return canon(fields...)
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}
