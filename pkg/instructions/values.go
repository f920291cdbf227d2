package instructions

import (
	"fmt"
	"strconv"
	"strings"
)

// parsePorts reads one operand of EXPOSE, [[IP:]HOST:]PORT[-PORT][/PROTOCOL],
// and gives each port of the container as "80/tcp".
func parsePorts(word string) ([]string, error) {
	ports, proto, _ := strings.Cut(word[strings.LastIndexByte(word, ':')+1:], "/")
	switch proto = strings.ToLower(proto); proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("invalid port %q: the protocol is tcp, udp or sctp", shown(word))
	}
	first, last, isRange := strings.Cut(ports, "-")
	lo, err := parsePort(first)
	if err != nil {
		return nil, fmt.Errorf("invalid port %q: %w", shown(word), err)
	}
	hi := lo
	if isRange {
		if hi, err = parsePort(last); err != nil {
			return nil, fmt.Errorf("invalid port %q: %w", shown(word), err)
		}
	}
	if hi < lo {
		return nil, fmt.Errorf("invalid port %q: the range ends before it begins", shown(word))
	}
	var out []string
	for n := lo; n <= hi; n++ {
		out = append(out, strconv.Itoa(n)+"/"+proto)
	}
	return out, nil
}

func parsePort(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("a port is a number from 0 to 65535")
	}
	return int(n), nil
}

// signals are Linux's names (signal(7)), without SIG.
const signals = " ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS " +
	"TERM TRAP TSTP TTIN TTOU UNUSED URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX "

// validSignal tells whether s is a signal's number, or its name in any case
// with or without SIG; real-time signals are RTMIN+n and RTMAX-n.
func validSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n >= 1 && n <= 64
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if off, ok := strings.CutPrefix(name, base); ok {
			n, err := strconv.ParseUint(off, 10, 8)
			return err == nil && n >= 1 && n <= 15
		}
	}
	return name != "" && !strings.Contains(name, " ") && strings.Contains(signals, " "+name+" ")
}
