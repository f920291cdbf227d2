package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience bounds every wait for something that has to happen.
const patience = 3 * time.Minute

// marks holds the start of a stopwatch; testscript runs one script per environment, and each has its own.
type marks struct{ start time.Time }

type marksKey struct{}

// commands returns what the scripts can say beyond testscript's own commands.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"imgconfig":  imgconfig,
		"imgfiles":   imgfiles,
		"layertree":  layertree,
		"storeclean": storeclean,
		"ended":      ended,
		"helper":     helper,
		"needtun":    needtun,
		"waitfor":    waitfor,
		"sigterm":    sigterm,
		"stopwatch":  stopwatch,
		"within":     within,
		"same":       same,
		"save":       save,
		"killbuilds": killbuilds,
		"stopbuilds": stopbuilds,
	}
}

// output runs a program as the script would and returns its standard output.
func output(ts *testscript.TestScript, name string, args ...string) string {
	if name == "rbuild" {
		name = ts.Getenv("RBUILD")
	}
	cmd := exec.Command(name, args...)
	cmd.Env = environ(ts)
	cmd.Dir = ts.MkAbs(".")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func environ(ts *testscript.TestScript) []string {
	var env []string
	for _, k := range []string{"HOME", "PATH", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "CONTAINERS_REGISTRIES_CONF", "LC_ALL", "BUILDAH_ISOLATION"} {
		env = append(env, k+"="+ts.Getenv(k))
	}
	return env
}

// image runs image.py, which reads the image through skopeo: none of rbuild's code takes part.
func image(ts *testscript.TestScript, args ...string) string {
	script := filepath.Join(ts.Getenv("HELPERS"), "image.py")
	return output(ts, "python3", append([]string{"-B", script}, args...)...)
}

func wantArgs(ts *testscript.TestScript, neg bool, args []string, n int, usage string) {
	if neg || len(args) != n {
		ts.Fatalf("usage: %s", usage)
	}
}

// imgconfig IMAGE prints the image's configuration, one "path=value" a line, for stdout to match.
func imgconfig(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "imgconfig IMAGE")
	var config any
	if err := json.Unmarshal([]byte(image(ts, "config", args[0])), &config); err != nil {
		ts.Fatalf("imgconfig: %v", err)
	}
	var lines []string
	flatten("", config, &lines)
	sort.Strings(lines)
	fmt.Fprintln(ts.Stdout(), strings.Join(lines, "\n"))
}

// flatten appends "path=value" for every leaf of v; an empty list or object is a leaf too.
func flatten(path string, v any, lines *[]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(path+"."+k, e, lines)
		}
		if len(v) > 0 {
			return
		}
	case []any:
		for i, e := range v {
			flatten(path+"["+strconv.Itoa(i)+"]", e, lines)
		}
		if len(v) > 0 {
			return
		}
	}

	text, err := json.Marshal(v)
	if s, ok := v.(string); ok {
		text = []byte(s)
	}
	if err != nil {
		text = []byte(err.Error())
	}
	*lines = append(*lines, strings.TrimPrefix(path, ".")+"="+string(text))
}

// imgfiles IMAGE prints every path of the flattened image: mode uid:gid type path [-> link] [=content of a small file].
func imgfiles(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "imgfiles IMAGE")
	fmt.Fprint(ts.Stdout(), image(ts, "files", args[0]))
}

// layertree IMAGE compares the tar of every layer with the layer's tree in the store.
func layertree(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "layertree IMAGE")
	fmt.Fprint(ts.Stdout(), image(ts, "layertree", args[0], ts.Getenv("STORE")))
}

// storeclean fails if a build has left anything behind: a process, a mount, a staging directory, an incomplete layer, a
// hold, a temporary file. Podman's pause process is not ours.
func storeclean(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "storeclean")
	private := ts.Getenv("PRIVATE")
	var found []string
	deadline := time.Now().Add(patience / 4) // the kernel may still be ending what was killed
	for {
		found = slices.Concat(processes(private), mounts(private), staging(ts.Getenv("STORE")), incomplete(ts.Getenv("STORE")),
			strays(ts.Getenv("STORE")), temporary(filepath.Join(private, "tmp")))
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("left behind:\n%s", strings.Join(found, "\n"))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ended waits until the processes of a killed build are gone: the kernel ends them a moment after the launcher.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "ended")
	for deadline := time.Now().Add(patience / 4); ; time.Sleep(10 * time.Millisecond) {
		found := processes(ts.Getenv("PRIVATE"))
		if len(found) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("still there:\n%s", strings.Join(found, "\n"))
		}
	}
}

// processes lists the processes that hold a file below dir, or whose mount namespace shows dir.
func processes(dir string) []string {
	var out []string
	links, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range links {
		comm, _ := os.ReadFile(p + "/comm")
		if name := strings.TrimSpace(string(comm)); name == "catatonit" || p == "/proc/"+strconv.Itoa(os.Getpid()) {
			continue
		}

		names, _ := filepath.Glob(p + "/fd/*")
		for _, f := range append(names, p+"/cwd", p+"/root", p+"/exe") {
			target, err := os.Readlink(f)
			if err == nil && strings.HasPrefix(target, dir) {
				cmdline, _ := os.ReadFile(p + "/cmdline")
				out = append(out, fmt.Sprintf("process %s holds %s: %q", p[len("/proc/"):], target, cmdline))
				break
			}
		}

		if table, _ := os.ReadFile(p + "/mountinfo"); strings.Contains(string(table), dir) {
			out = append(out, fmt.Sprintf("process %s (%s) keeps mounts of the store", p[len("/proc/"):], strings.TrimSpace(string(comm))))
		}
	}

	return out
}

// mounts lists what is mounted below dir in this mount namespace.
func mounts(dir string) []string {
	var out []string
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+dir) {
			out = append(out, "mount "+strings.TrimSpace(line))
		}
	}
	return out
}

// staging lists what is in the store's staging areas, apart from their lock files.
func staging(store string) []string {
	var out []string
	for _, pattern := range []string{"overlay/staging/*", "overlay/tempdirs/*", "overlay-layers/tmp/*", "overlay/*/tempdirs/*", "overlay-layers/tempdirs/*"} {
		names, _ := filepath.Glob(filepath.Join(store, pattern))
		for _, n := range names {
			if !strings.HasSuffix(n, ".lock") {
				held, _ := filepath.Glob(n + "/*")
				out = append(out, fmt.Sprintf("staging directory %s with %q", n, bases(held)))
			}
		}
	}
	return out
}

// incomplete lists layers that are marked as incomplete, and directories of layers that the store does not know.
func incomplete(store string) []string {
	data, err := os.ReadFile(filepath.Join(store, "overlay-layers", "layers.json"))
	if err != nil {
		return nil
	}

	var layers []struct {
		ID    string         `json:"id"`
		Names []string       `json:"names"`
		Flags map[string]any `json:"flags"`
	}

	if err := json.Unmarshal(data, &layers); err != nil {
		return []string{"layers.json: " + err.Error()}
	}

	var out []string
	known := map[string]bool{}
	for _, l := range layers {
		known[l.ID] = true
		if l.Flags["incomplete"] == true {
			out = append(out, "incomplete layer "+l.ID)
		}
		if strings.HasPrefix(strings.Join(l.Names, " "), "rbuild-hold-") {
			out = append(out, "hold "+l.ID)
		}
	}

	dirs, _ := filepath.Glob(filepath.Join(store, "overlay", strings.Repeat("[0-9a-f]", 64)))
	for _, d := range dirs {
		if !known[filepath.Base(d)] {
			out = append(out, "directory of no layer "+d)
		}
	}

	return out
}

// strays lists what belongs to no layer and no image of the store: half-written files of the library's, tar-splits,
// documents, links, spooled blobs.
func strays(store string) []string {
	var out []string
	for _, pattern := range []string{"overlay-*/.tmp-*", "overlay-images/*/.tmp-*", "tmp/rbuild-*"} {
		names, _ := filepath.Glob(filepath.Join(store, pattern))
		for _, n := range names {
			out = append(out, "stray file "+n)
		}
	}

	links, _ := filepath.Glob(filepath.Join(store, "overlay/l/*"))
	for _, l := range links {
		if _, err := os.Stat(l); err != nil {
			out = append(out, "link that leads nowhere: "+l)
		}
	}

	for _, of := range []struct{ records, pattern, suffix string }{
		{"overlay-layers/layers.json", "overlay-layers/*.tar-split.gz", ".tar-split.gz"},
		{"overlay-images/images.json", "overlay-images/" + strings.Repeat("[0-9a-f]", 64), ""},
	} {
		records, _ := os.ReadFile(filepath.Join(store, of.records))
		names, _ := filepath.Glob(filepath.Join(store, of.pattern))
		for _, n := range names {
			if !strings.Contains(string(records), `"`+strings.TrimSuffix(filepath.Base(n), of.suffix)+`"`) {
				out = append(out, "of nothing that is recorded: "+n)
			}
		}
	}

	return out
}

func temporary(dir string) []string {
	var out []string
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, n := range names {
		if base := filepath.Base(n); !strings.HasPrefix(base, "podman-run-") && !strings.HasPrefix(base, "storage-run-") &&
			!strings.HasPrefix(base, "containers-user-") {
			out = append(out, "temporary file "+n)
		}
	}
	return out
}

// waitfor FILE [REGEXP] waits until FILE is there and matches.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfor FILE [REGEXP]")
	}
	re, err := regexp.Compile(strings.Join(args[1:], ""))
	ts.Check(err)
	var data []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		data, err = os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && re.Match(data) {
			return
		}
	}

	ts.Fatalf("%s does not match after %v (%v):\n%s", strings.Join(args, " "), patience, err, data)
}

// sigterm FILE sends SIGTERM to the process whose number FILE holds; testscript's kill knows INT and KILL only.
func sigterm(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "sigterm PIDFILE")
	output(ts, "kill", "-TERM", strings.TrimSpace(ts.ReadFile(args[0])))
}

// stopwatch starts the time that within measures.
func stopwatch(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "stopwatch")
	m, ok := ts.Value(marksKey{}).(*marks)
	if !ok {
		ts.Fatalf("stopwatch: no mark in this environment")
	}
	m.start = time.Now()
}

// within DURATION fails if more time has passed since stopwatch.
func within(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "within DURATION")
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	m, _ := ts.Value(marksKey{}).(*marks)
	if took := time.Since(m.start); took > limit {
		ts.Fatalf("took %v, more than %v", took.Round(time.Millisecond), limit)
	}
}

// save NAME keeps the last standard output, without blanks around it, as the variable NAME.
func save(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "save NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// same A B, or ! same A B, compares two texts.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] same A B")
	}
	if (args[0] == args[1]) == neg {
		ts.Fatalf("%q and %q: equal is %t", args[0], args[1], neg)
	}
}

// bases returns the last elements of paths.
func bases(paths []string) []string {
	out := make([]string, 0, len(paths))
	for _, p := range paths {
		out = append(out, filepath.Base(p))
	}
	return out
}
