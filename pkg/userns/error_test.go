package userns

import (
	"errors"
	"syscall"
	"testing"
)

func TestExplainRefusal(t *testing.T) {
	const op = "creating a user namespace"
	tests := []struct {
		name   string
		err    error
		s      situation
		reason Reason
		says   []string
	}{
		{"limit is zero", syscall.ENOSPC, situation{MaxNamespaces: "0"}, Limit, []string{op, "max_user_namespaces is 0", "sysctl -w user.max_user_namespaces="}},
		{"limit is reached", syscall.ENOSPC, situation{MaxNamespaces: "12"}, Limit, []string{"max_user_namespaces=12"}},
		{"too deep", syscall.EUSERS, situation{MaxNamespaces: "12"}, Limit, []string{"32 levels"}},
		{"limit is zero, EPERM", syscall.EPERM, situation{MaxNamespaces: "0", Seccomp: true}, Limit, nil},
		{"not in the kernel", syscall.EINVAL, situation{}, NoKernel, []string{"CONFIG_USER_NS"}},
		{"Debian's switch", syscall.EPERM, situation{EUID: 5, Clone: "0"}, Forbidden, []string{"sysctl -w kernel.unprivileged_userns_clone=1"}},
		{"Debian's switch does not bind root", syscall.EPERM, situation{Clone: "0", Seccomp: true}, Seccomp, nil},
		{"Ubuntu's AppArmor", syscall.EACCES, situation{AppArmor: "1", Seccomp: true, Clone: "1"}, AppArmor, []string{"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"}},
		{"seccomp", syscall.EPERM, situation{Seccomp: true, AppArmor: "0"}, Seccomp, []string{"seccompProfile.type: Unconfined"}},
		{"seccomp, root of a pod", syscall.EPERM, situation{Seccomp: true}, Seccomp, []string{"set hostUsers: false, seccompProfile.type: Unconfined and"}},
		{"seccomp, root of a pod with its ids", syscall.EPERM, situation{Seccomp: true, OwnIDs: true}, Seccomp, []string{"pod set seccompProfile.type: Unconfined and"}},
		{"seccomp, user of a pod", syscall.EPERM, situation{Seccomp: true, EUID: 5}, Seccomp, []string{"pod set seccompProfile.type: Unconfined and"}},
		{
			"seccomp, restricted pod", syscall.EPERM,
			situation{Seccomp: true, EUID: 5, NoNewPrivs: true, NoSetIDs: true},
			Seccomp,
			[]string{"set hostUsers: false, runAsUser: 0 (not runAsNonRoot), no capabilities.drop, seccompProfile.type: Unconfined and"},
		},
		{"seccomp hides the call", syscall.ENOSYS, situation{Seccomp: true}, Seccomp, nil},
		{"AppArmor profile", syscall.EACCES, situation{Confined: "cri-containerd (enforce)"}, AppArmor, []string{"cri-containerd", "appArmorProfile.type: Unconfined"}},
		{"nothing visible", syscall.EPERM, situation{Clone: "1"}, Forbidden, []string{"no cause visible"}},
		{"something else", syscall.ENOMEM, situation{Seccomp: true}, Forbidden, []string{"cannot allocate memory"}},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := explainRefusal(op, tc.err, tc.s)
			checkError(t, err, tc.reason, tc.says)
			if !errors.Is(err, tc.err) {
				t.Errorf("%v is not wrapped", tc.err)
			}
		})
	}
}

func TestExplainHelper(t *testing.T) {
	failed := errors.New("exit status 1")
	const refused = "newuidmap: write to uid_map failed: Operation not permitted\n"
	tests := []struct {
		name   string
		f      helperFailure
		s      situation
		reason Reason
		says   []string
	}{
		{"no_new_privs", helperFailure{Output: refused, SetUID: true}, situation{EUID: 5, NoNewPrivs: true}, NoNewPrivs, []string{"allowPrivilegeEscalation"}},
		{
			"no_new_privs, no capabilities",
			helperFailure{FileCaps: true},
			situation{EUID: 5, NoNewPrivs: true, NoSetIDs: true},
			NoNewPrivs,
			[]string{"allowPrivilegeEscalation: true and no capabilities.drop, or hostUsers: false and runAsUser: 0"},
		},
		{"no capabilities", helperFailure{FileCaps: true}, situation{EUID: 5, NoSetIDs: true}, HelperRights, []string{"no capabilities.drop"}},
		{"nosuid", helperFailure{Output: refused, SetUID: true, NoSUID: true}, situation{EUID: 5}, HelperRights, []string{"nosuid", "remount,suid"}},
		{"no privilege", helperFailure{Output: refused}, situation{EUID: 5}, HelperRights, []string{"setcap cap_setuid=ep /usr/bin/newuidmap"}},
		{"no privilege for groups", helperFailure{Path: "/x/newgidmap", Output: "newgidmap: no"}, situation{EUID: 5}, HelperRights, []string{"setcap cap_setgid=ep /x/newgidmap"}},
		{
			"setuid in a pod",
			helperFailure{Output: refused, SetUID: true},
			situation{EUID: 5},
			HelperRights,
			[]string{"CAP_SYS_ADMIN", "chmod u-s /usr/bin/newuidmap && setcap cap_setuid=ep"},
		},
		{
			"range refused",
			helperFailure{Output: "newuidmap: uid range [1-65537) -> [100000-165536) not allowed\n", SetUID: true, User: "alice", Ranges: "0 1000 1, 1 100000 65536"},
			situation{EUID: 5},
			NoSubIDs,
			[]string{"asked for 0 1000 1, 1 100000 65536", "user alice these ids in /etc/subuid"},
		},
		{
			"newgrp",
			helperFailure{Output: "newuidmap: Target process 9 is owned by a different user: uid:1 pw_uid:1 st_uid:1, gid:2 pw_gid:1 st_gid:2\n", SetUID: true},
			situation{EUID: 5},
			HelperFailed,
			[]string{"newgrp"},
		},
		{"no name", helperFailure{Output: "newuidmap: Cannot determine your user name.\n", FileCaps: true}, situation{UID: 5, EUID: 5}, NoUser, []string{"uid 5"}},
		{"not executed", helperFailure{SetUID: true}, situation{EUID: 5}, HelperFailed, []string{"exit status 1"}},
		{"with capabilities", helperFailure{Output: refused, FileCaps: true}, situation{EUID: 5}, HelperFailed, []string{"write to uid_map failed"}},
	}

	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			tc.f.Err = failed
			if tc.f.Path == "" {
				tc.f.Path = "/usr/bin/newuidmap"
			}
			err := explainHelper(tc.f, tc.s)
			checkError(t, err, tc.reason, tc.says)
			if !errors.Is(err, failed) {
				t.Error("the cause is not wrapped")
			}
		})
	}
}

func TestSingleHelps(t *testing.T) {
	for reason, want := range map[Reason]bool{NoSubIDs: true, NoNewPrivs: true, Seccomp: false, Limit: false, Unjoined: false} {
		if got := singleHelps(&Error{Reason: reason}); got != want {
			t.Errorf("%s: %v", reason, got)
		}
	}
	if singleHelps(errors.New("other")) {
		t.Error("any error leads to a single id")
	}
}
