package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// Key has all options that can change the result of a process, for a cache key (docs/cache.md). The
// fields of Command are not in Key: whoever computes the cache key has them from the instruction.
// The test TestEveryOptionIsClassified lists the options that are not in Key, with the reasons.
type Key struct {
	Network      NetworkMode
	Hosts        []string // NAME=ADDRESS
	Volumes      []string // as the command line has them
	Discarded    []string // volumes of the image whose data is discarded
	KeepHosts    bool
	KeepResolver bool
	KeepHostname bool
	Stdin        bool // there is one; its content is not in the key
	Devices      []DeviceKey
	Security     SecurityKey
}

// ProcessKey marks a Key as a part of cache.Key.
func (Key) ProcessKey() {}

// DeviceKey is a device in a Key.
type DeviceKey struct{ Path, Dest string }

// SecurityKey is the part of Security that can change the result of a process. An option that has
// the effect of the default is the default.
type SecurityKey struct {
	Capabilities    []string // nil: docker's, or all of an insecure command
	Seccomp         string   // SHA-256 of the profile in hexadecimal; empty: docker's or none
	NoSeccomp       bool     // no profile where the default has one
	AppArmor        string
	NoNewPrivileges bool
	Mask, Unmask    []string
	Groups          []string
	KeepGroups      bool
	UIDs, GIDs      []sandbox.IDRange
	CgroupNames     sandbox.CgroupNames
}

// Key returns the options that can change the result of the command.
func (o Options) Key(c Command) Key {
	k := Key{
		Network:      o.Network.of(c),
		Discarded:    o.discarded(c),
		KeepHosts:    o.Etc.KeepHosts,
		KeepResolver: o.Etc.KeepResolver,
		KeepHostname: o.Etc.KeepHostname,
		Stdin:        o.Stdin != nil,
		Security:     o.Security.key(c.Insecure),
	}

	for _, h := range o.Etc.Hosts {
		k.Hosts = append(k.Hosts, h.Name+"="+h.Addr.String())
	}
	for _, v := range o.Volumes {
		k.Volumes = append(k.Volumes, v.Text)
	}
	for _, d := range o.Devices {
		k.Devices = append(k.Devices, DeviceKey{d.Path, d.Dest})
	}

	return k
}

func (s Security) key(insecure bool) SecurityKey {
	k := SecurityKey{
		NoSeccomp:       s.NoSeccomp && s.Seccomp == nil && !insecure,
		AppArmor:        s.AppArmor,
		NoNewPrivileges: s.NoNewPrivileges,
		Mask:            s.Mask,
		Unmask:          s.Unmask,
		Groups:          s.Groups,
		KeepGroups:      s.KeepGroups,
		UIDs:            s.UIDs,
		GIDs:            s.GIDs,
		CgroupNames:     s.CgroupNames,
	}

	if s.changesCapabilities() {
		caps, err := s.capabilities(insecure)
		usual, _ := Security{}.capabilities(insecure) // docker's: no error
		if err != nil || !slices.Equal(caps, usual) {
			k.Capabilities = append([]string{}, caps...) // not nil: an empty set is not docker's
		}
	}
	if s.Seccomp != nil {
		sum := sha256.Sum256(s.Seccomp)
		k.Seccomp = hex.EncodeToString(sum[:])
	}

	return k
}
