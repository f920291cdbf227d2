package instructions

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// parsePorts reads one operand of EXPOSE, [[IP:]HOST:]PORT[-PORT][/PROTOCOL]. It returns each port
// of the container in the form "80/tcp". The part for the host is checked and omitted.
func parsePorts(word string) ([]string, error) {
	host, port := "", word
	if i := strings.LastIndexByte(word, ':'); i >= 0 {
		host, port = word[:i], word[i+1:]
	}
	port, proto, _ := strings.Cut(port, "/")
	switch proto = strings.ToLower(proto); proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("invalid port %q: the protocol is tcp, udp or sctp", shown(word))
	}

	lo, hi, err := portRange(port)
	if err != nil {
		return nil, fmt.Errorf("invalid port %q: %w", shown(word), err)
	}
	if err := checkHost(host, hi-lo); err != nil {
		return nil, fmt.Errorf("invalid port %q: %w", shown(word), err)
	}

	var out []string
	for n := lo; n <= hi; n++ {
		out = append(out, strconv.Itoa(n)+"/"+proto)
	}

	return out, nil
}

// checkHost checks [IP:]PORT[-PORT] of the host. The container has size+1 ports.
func checkHost(host string, size int) error {
	i := strings.LastIndexByte(host, ':')
	if ip := strings.TrimSuffix(strings.TrimPrefix(host[:max(i, 0)], "["), "]"); ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return errors.New("the address of the host is none")
		}
	}

	if host[i+1:] == "" {
		return nil
	}

	lo, hi, err := portRange(host[i+1:])
	if err != nil {
		return err
	}
	if hi-lo != size && size > 0 {
		return errors.New("the ranges of host and container differ in size")
	}
	return nil
}

func portRange(s string) (lo, hi int, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	for _, p := range []struct {
		text string
		n    *int
	}{{first, &lo}, {last, &hi}} {
		n, err := strconv.ParseUint(p.text, 10, 16)
		if err != nil {
			return 0, 0, errors.New("a port is a number from 0 to 65535")
		}
		*p.n = int(n)
	}

	if hi < lo {
		return 0, 0, errors.New("the range ends before it begins")
	}
	return lo, hi, nil
}

// signals lists the names of signals of Linux (signal(7)) without SIG.
const signals = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP " +
	"SYS TERM TRAP TSTP TTIN TTOU UNUSED URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX "

// validSignal reports whether s is the number of a signal or the name of a signal, in any case,
// with or without SIG. Names of real-time signals are RTMIN+n and RTMAX-n.
func validSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n >= 1 && n <= 64
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if off, ok := strings.CutPrefix(name, base); ok {
			n, err := strconv.ParseUint(off, 10, 8)
			if err != nil {
				return false
			}
			return n >= 1 && n <= 15
		}
	}
	return name != "" && !strings.Contains(name, " ") && strings.Contains(signals, " "+name+" ")
}
