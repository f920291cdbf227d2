package userns

// Explain says why the kernel refused op, which makes a user namespace or a mount in one, from what it answered and from what
// confines this process. It is for those who make namespaces of their own below the builder's.
func Explain(op string, err error) *Error { return explainRefusal(op, err, readSituation()) }

// Confinement is what confines a process beside its user id. It explains refusals; it does not foretell them.
type Confinement struct {
	NoNewPrivs bool   // prctl(2) PR_SET_NO_NEW_PRIVS: setuid programs and file capabilities have no effect
	Seccomp    bool   // a filter is active
	AppArmor   string // the profile; empty: none
}

// ReadConfinement returns what confines this process. What cannot be read counts as not there.
func ReadConfinement() Confinement {
	s := readSituation()
	return Confinement{NoNewPrivs: s.NoNewPrivs, Seccomp: s.Seccomp, AppArmor: s.Confined}
}
