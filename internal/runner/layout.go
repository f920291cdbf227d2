package runner

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// A mount is one entry of the list of mounts of a process. Its source is
//
//	nil        the sandbox makes the file system, for example /proc or a tmpfs
//	Device     a device of the host
//	discard    a volume of the image whose data is discarded
//	ownFile    a file with content that the runner knows
//	Volume     a file or directory of the host
//	Bind, Cache, Secret, SSH
//	           as in Mount
type mount struct {
	target  string
	kind    string   // of the file system as runtime-spec has it: "bind", "tmpfs", "proc"...
	device  string   // source of a file system that the sandbox makes, as runtime-spec has it
	options []string // as runtime-spec has them
	source  any
	name    string // of a Mount in errors; empty: the mount is none of the Command's
}

// discard is the source of a volume whose data is discarded.
type discard struct{ volume string }

// ownFile is the source of a file that the runner writes.
type ownFile struct {
	name string // in the scratch directory
	data []byte
	mode uint32
}

// layout returns the mounts of a process in the order in which they are made: docker's, devices,
// discarded volumes, files, volumes of the host, mounts of the command. It looks at no file.
func (o Options) layout(c Command, etc etcFiles) ([]mount, error) {
	own := o.ownFiles(c, etc)
	volumes, err := o.discards(c, own)
	if err != nil {
		return nil, err
	}
	last, err := o.commandMounts(c)
	if err != nil {
		return nil, err
	}

	all := slices.Concat(o.defaultMounts(), volumes, own, o.volumes())

	// A mount of the command replaces a file or volume at the same target.
	all = slices.DeleteFunc(all, func(m mount) bool {
		return m.kind == "bind" && slices.ContainsFunc(last, func(l mount) bool { return l.target == m.target })
	})

	return append(all, last...), nil
}

// defaultMounts returns docker's mounts, with the size of /dev/shm that the options name, and the
// devices.
func (o Options) defaultMounts() []mount {
	var out []mount
	for _, d := range sandbox.DefaultSpec().Mounts {
		if d.Destination == "/dev/shm" && o.Limits.ShmSize != nil {
			d.Options = slices.DeleteFunc(d.Options, func(option string) bool { return strings.HasPrefix(option, "size=") })
			d.Options = append(d.Options, fmt.Sprintf("size=%d", *o.Limits.ShmSize))
		}
		out = append(out, mount{target: d.Destination, kind: d.Type, device: d.Source, options: d.Options})
	}

	for _, d := range o.Devices {
		out = append(out, mount{target: d.Dest, kind: "bind", options: []string{"bind", "dev", "nosuid", "noexec"}, source: d})
	}

	return out
}

// ownFiles returns the mounts of the files of /etc, read-only because data that a process wrote
// there would be lost silently, and of the command's files.
func (o Options) ownFiles(c Command, etc etcFiles) []mount {
	var out []mount
	add := func(target, name string, data []byte, mode uint32) {
		out = append(out, mount{target: target, kind: "bind", options: []string{"ro", "bind"}, source: ownFile{name, data, mode}})
	}

	if !o.Etc.KeepHosts {
		add(hostsFile, "hosts", etc.hosts, 0o644)
	}
	if !o.Etc.KeepResolver {
		add(resolverFile, "resolv.conf", etc.resolv, 0o644)
	}
	if !o.Etc.KeepHostname {
		add(hostnameFile, "hostname", etc.hostname, 0o644)
	}
	for i, f := range c.Files {
		add(f.Path, fmt.Sprintf("pipe%d", i), f.Data, 0o755)
	}

	return out
}

// volumes returns the mounts of the user's files and directories.
func (o Options) volumes() []mount {
	var out []mount
	for _, v := range o.Volumes {
		access := "rw"
		if v.ReadOnly {
			access = "ro"
		}
		out = append(out, mount{target: v.Dest, kind: "bind", options: append([]string{"rbind", access}, v.Options...), source: v})
	}
	return out
}

// discards returns the mounts of the image's volumes whose data is discarded. A volume at or in
// another mount needs none.
func (o Options) discards(c Command, own []mount) ([]mount, error) {
	taken := func(volume string) bool {
		return slices.ContainsFunc(sandbox.DefaultSpec().Mounts, func(m specs.Mount) bool {
			return volume == m.Destination || isBelow(volume, m.Destination)
		}) ||
			slices.ContainsFunc(own, func(m mount) bool { return m.target == volume }) ||
			slices.ContainsFunc(o.Volumes, func(v Volume) bool { return v.Dest == volume }) ||
			slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Target == volume })
	}

	var out []mount
	for _, v := range o.discarded(c) {
		if v == "/" {
			return nil, errors.New("--compat-volumes: the volume / is all of the image")
		}
		if !taken(v) {
			out = append(out, mount{target: v, kind: "bind", options: []string{"bind", "rw"}, source: discard{v}})
		}
	}

	return out, nil
}

// commandMounts returns the mounts of the command. A Secret or SSH that the options lack and the
// command does not require is left out.
func (o Options) commandMounts(c Command) ([]mount, error) {
	var out []mount
	for _, m := range c.Mounts {
		one := mount{target: m.Target, kind: "bind", options: m.access("rw"), source: m.Source, name: m.name()}
		switch src := m.Source.(type) {
		case Tmpfs:
			one.kind = "tmpfs"
			one.device = "tmpfs"
			one.options = src.options(m)
			one.source = nil
		case Secret:
			if _, ok := o.Secrets[src.ID]; !ok && src.Required {
				return nil, fmt.Errorf("--mount: %s: secret %q is required: give it with --secret id=%s,src=FILE or --secret id=%s,env=VARIABLE",
					m.name(), src.ID, src.ID, src.ID)
			} else if !ok || m.Target == "" {
				continue
			}
			one.options = inMemory
		case SSH:
			if o.SSH[src.ID] == nil && src.Required {
				return nil, fmt.Errorf("--mount: %s: ssh agent %q is required: give it with --ssh %s, or --ssh %s=KEY-OR-SOCKET",
					m.name(), src.ID, src.ID, src.ID)
			} else if o.SSH[src.ID] == nil {
				continue
			}
			one.options = inMemory
		}
		out = append(out, one)
	}

	return out, nil
}

// inMemory are the options of mounts of files in memory.
var inMemory = []string{"bind", "ro", "nosuid", "nodev", "noexec"}

// access returns the options of a bind mount. access is "rw" or "ro"; ReadOnly wins.
func (m Mount) access(access string) []string {
	if m.ReadOnly {
		access = "ro"
	}
	return append([]string{"bind", access}, m.Attributes...)
}

func (t Tmpfs) options(m Mount) []string {
	options := append([]string{"nosuid"}, m.Attributes...)
	if m.ReadOnly {
		options = append(options, "ro")
	}
	if t.Size > 0 {
		options = append(options, "size="+strconv.FormatInt(t.Size, 10))
	}
	if t.Mode != nil {
		options = append(options, fmt.Sprintf("mode=%o", *t.Mode))
	}
	return options
}

// environment returns the variables of a process: the command's, those of the mounts, which win,
// and HOME. The first available SSH agent, as the user wrote the mounts, is SSH_AUTH_SOCK unless
// the variable exists.
func (o Options) environment(c Command, home string) []string {
	out := slices.Clone(c.Env)
	set := func(name, value string) {
		out = slices.DeleteFunc(out, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
		out = append(out, name+"="+value)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(out, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	}

	socket := Mount{Number: -1}
	for _, m := range c.Mounts {
		switch src := m.Source.(type) {
		case Secret:
			if value, ok := o.Secrets[src.ID]; ok && src.Env != nil {
				set(*src.Env, string(value))
			}
		case SSH:
			if o.SSH[src.ID] != nil && (socket.Number < 0 || m.Number < socket.Number) {
				socket = m
			}
		}
	}

	if socket.Number >= 0 && !has("SSH_AUTH_SOCK") {
		set("SSH_AUTH_SOCK", socket.Target)
	}
	if !has("HOME") {
		set("HOME", home)
	}

	return out
}
