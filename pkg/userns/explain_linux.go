package userns

// Explain returns the reason and the remedy for an error of the kernel. op names the operation that
// created a namespace or a mount, for example "creating a user namespace", and err is the error of
// the system call. Explain reads from /proc what confines this process. It is for programs that
// create more namespaces below the namespace of the builder.
func Explain(op string, err error) *Error { return explainRefusal(op, err, readSituation()) }

// Confinement describes restrictions of a process besides its user ID. They explain a refusal but
// do not predict one.
type Confinement struct {
	NoNewPrivs bool   // setuid programs and file capabilities have no effect: PR_SET_NO_NEW_PRIVS, prctl(2)
	Seccomp    bool   // a seccomp filter is active
	AppArmor   string // the AppArmor profile; empty: none
}

// ReadConfinement returns the restrictions of this process. A restriction that cannot be read
// counts as absent.
func ReadConfinement() Confinement {
	s := readSituation()
	return Confinement{NoNewPrivs: s.NoNewPrivs, Seccomp: s.Seccomp, AppArmor: s.Confined}
}
