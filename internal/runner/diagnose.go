package runner

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Bounds of the search for a reason after a process has failed.
const (
	maxHintWords = 128     // words of the command and of its output
	maxHintDepth = 4       // interpreters of interpreters
	maxHeader    = 4 << 10 // bytes of a program
	maxShown     = 128     // bytes of the first line of a script
)

// diagnosis looks for the reason why a program of a process could not be executed. It reads files
// of the image and of the process's mounts by descriptor: no symbolic link leads outside.
type diagnosis struct {
	config  *sandbox.Config
	command Command
	root    fdfs.Dir
}

// diagnose calls look with the files that the process of config saw. It returns "" if the files
// cannot be read: the error to explain is more important than an error of the explanation.
func diagnose(config *sandbox.Config, c Command, look func(diagnosis) string) string {
	layers := config.Root
	layers.Lowers = slices.Concat([]string{layers.Upper}, layers.Lowers)
	layers.Upper = "" // the process's mount may still use the upper directory
	layers.Work = ""
	root, err := overlay.Open(layers)
	if err != nil {
		return ""
	}
	defer root.Close()
	return strings.Map(printable, look(diagnosis{config, c, fdfs.OnDisk(root)}))
}

// printable replaces characters that could control a terminal: an image chooses the names of files
// and interpreters.
func printable(c rune) rune {
	if !unicode.IsPrint(c) {
		return '?'
	}
	return c
}

// isShellScript reports whether a shell reads a file: its name says so, or it is one of the
// command's files. Other texts may have any line ends.
func (d diagnosis) isShellScript(file string) bool {
	return slices.Contains([]string{".sh", ".bash", ".env"}, path.Ext(file)) || d.ownFile(file) != nil
}

// ownFile returns the file of the command with that path; nil if there is none.
func (d diagnosis) ownFile(file string) *File {
	for i, f := range d.command.Files {
		if f.Path == file {
			return &d.command.Files[i]
		}
	}
	return nil
}

// notExecuted explains why the program of the process could not be executed.
func (d diagnosis) notExecuted() string { return d.program(d.config.Spec.Process.Args[0]) }

// failed explains why a program that the process started could not be executed. The candidates are
// the words of the complaints, then the words of the command.
func (d diagnosis) failed(complaints []string) string {
	texts := slices.Concat(complaints, d.command.Argv)
	for _, f := range d.command.Files {
		texts = append(texts, string(f.Data))
	}
	seen := map[string]bool{}
	for _, text := range texts {
		for word := range strings.FieldsFuncSeq(text, isShellSpace) {
			word = strings.TrimRight(word, ":,.\r")
			if word == "" || seen[word] || strings.HasPrefix(word, "-") {
				continue
			}
			if seen[word] = true; len(seen) > maxHintWords {
				return ""
			}
			if reason := d.program(word); reason != "" {
				return reason
			}
		}
	}

	return ""
}

// isShellSpace reports whether a word of a shell ends at c, or a quotation begins or ends.
func isShellSpace(c rune) bool { return strings.ContainsRune(" \t\n;&|()<>`'\"$={}", c) }

// program explains why the first existing file that the name of a program may mean cannot be
// executed. It returns "" if it finds no reason.
func (d diagnosis) program(name string) string {
	p := d.config.Spec.Process
	for _, file := range sandbox.Candidates(name, p.Env) {
		if !path.IsAbs(file) {
			file = path.Join("/", p.Cwd, file)
		}
		if header := d.read(file); header != nil {
			return d.examine(file, header, 0)
		}
	}
	return ""
}

// read returns the first maxHeader bytes of a regular file; nil if the file is missing or of
// another type.
func (d diagnosis) read(file string) []byte {
	f := d.open(file)
	if f == nil {
		return nil
	}
	defer f.Close()
	header := make([]byte, maxHeader)
	n, err := f.ReadAt(header, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return header[:n]
}

// open opens a regular file of the process's mounts or of the image; nil if there is none.
func (d diagnosis) open(file string) *os.File {
	root, rest := d.root, path.Clean(file)
	mount := ""
	for dest, source := range d.config.Sources {
		dest = path.Clean(dest)
		below := strings.HasPrefix(rest, dest+"/")
		if rest != dest && !below || len(dest) < len(mount) {
			continue
		}
		mount = dest
		root = fdfs.OnDisk(source)
	}

	if d.isSecret(mount) {
		return nil // an explanation must not show a secret
	}
	if rest == mount && mount != "" {
		return reopened(d.config.Sources[mount])
	}

	c := fdfs.NewCursor(root)
	defer c.Close()

	name, st, err := c.Resolve(strings.TrimPrefix(rest, mount), nil)
	if err != nil || st.Type != fdfs.Regular {
		return nil
	}

	f, st, err := c.Dir().OpenFile(name)
	if err != nil {
		return nil
	}
	if st.Type != fdfs.Regular {
		f.Close() // was only opened
		return nil
	}

	return fdfs.DescriptorOf(f)
}

// isSecret reports whether a secret is mounted at target.
func (d diagnosis) isSecret(target string) bool {
	return slices.ContainsFunc(d.command.Mounts, func(m Mount) bool {
		_, ok := m.Source.(Secret)
		return ok && m.Target == target && target != ""
	})
}

// reopened opens the regular file of a descriptor again, for reading; nil if that fails.
func reopened(source *os.File) *os.File {
	if st, err := fdfs.FileStat(source); err != nil || st.Type != fdfs.Regular {
		return nil
	}
	f, err := os.Open(descriptorPath(source))
	if err != nil {
		return nil
	}
	return f
}

// examine explains why a program that begins with header cannot be executed. It returns "" if the
// reason is unknown.
func (d diagnosis) examine(file string, header []byte, depth int) string {
	switch {
	case depth > maxHintDepth:
		return ""
	case bytes.HasPrefix(header, []byte("#!")):
		return d.script(file, header, depth)
	case bytes.HasPrefix(header, []byte(elf.ELFMAG)):
		return d.binary(file, header)
	case d.isShellScript(file) && bytes.Contains(header, []byte("\r\n")) && !bytes.ContainsRune(header, 0):
		return fmt.Sprintf("the lines of %s end in CRLF, and a shell takes the CR for a part of the last word; %s", file, d.convert(file))
	}
	return ""
}

// convert returns the remedy for a file with lines that end in CRLF.
func (d diagnosis) convert(file string) string {
	if own := d.ownFile(file); own != nil && own.UseLF != "" {
		return own.UseLF
	}
	return fmt.Sprintf("write the file with LF (git: \"*.sh text eol=lf\" in .gitattributes), or run sed -i 's/\\r$//' %s first", file)
}

// script explains an error in the first line of a script, for example a missing interpreter.
func (d diagnosis) script(file string, header []byte, depth int) string {
	line, _, _ := bytes.Cut(header, []byte("\n"))
	text := strings.Trim(strings.TrimPrefix(string(line), "#!"), " \t")
	interpreter, _, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	switch {
	case strings.HasSuffix(text, "\r"):
		return fmt.Sprintf("%s begins with %q: its lines end in CRLF, and the CR belongs to the name of its interpreter or to its argument; %s",
			file, line[:min(len(line), maxShown)], d.convert(file))
	case interpreter == "":
		return fmt.Sprintf("%s begins with #! and names no interpreter", file)
	}

	at := interpreter
	if !path.IsAbs(at) {
		at = path.Join("/", d.config.Spec.Process.Cwd, at)
	}
	inside := d.read(at)
	if inside == nil {
		return fmt.Sprintf("%s exists, but its interpreter %s is not in the image: install it, or correct the first line of %s", file, interpreter, file)
	}
	return d.examine(at, inside, depth+1)
}

// binary explains why a program in ELF cannot be executed, for example because its dynamic loader
// is missing.
func (d diagnosis) binary(file string, header []byte) string {
	theirs, ours := binfmt.Architecture(header), binfmt.Architecture(binfmt.Program(runtime.GOARCH))
	if theirs != ours && (theirs != "386" || ours != "amd64") {
		if theirs == "" {
			theirs = "another architecture"
		}
		return fmt.Sprintf("%s is a program for %s, and this machine is %s: take the one for %s, or install an emulator (apt install qemu-user-static)",
			file, theirs, ours, ours)
	}

	loader := loaderOf(header)
	if loader == "" || d.read(loader) != nil {
		return ""
	}
	return fmt.Sprintf("%s exists, but its dynamic loader %s is not in the image: the program is linked against another C library "+
		"than the image has; use one that is linked statically or built for this image", file, loader)
}

// loaderOf returns the dynamic loader that an ELF file names (PT_INTERP), for example
// "/lib64/ld-linux-x86-64.so.2"; "" if header has no name.
func loaderOf(header []byte) string {
	if len(header) < 64 {
		return ""
	}

	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(header[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}

	// Offsets of the tables and of their fields, elf(5).
	at, size, count := order.Uint64(header[32:]), uint64(order.Uint16(header[54:])), uint64(order.Uint16(header[56:]))
	offset, length, word := uint64(8), uint64(32), 8
	if elf.Class(header[elf.EI_CLASS]) == elf.ELFCLASS32 {
		at, size, count = uint64(order.Uint32(header[28:])), uint64(order.Uint16(header[42:])), uint64(order.Uint16(header[44:]))
		offset, length, word = 4, 16, 4
	}

	number := func(from uint64) uint64 {
		if word == 4 {
			return uint64(order.Uint32(header[from:]))
		}
		return order.Uint64(header[from:])
	}

	if size < length+8 || at > maxHeader {
		return ""
	}

	for ; count > 0 && at+size <= uint64(len(header)); at, count = at+size, count-1 {
		if elf.ProgType(order.Uint32(header[at:])) != elf.PT_INTERP {
			continue
		}
		from, n := number(at+offset), number(at+length)
		if from > uint64(len(header)) || n > uint64(len(header))-from {
			return ""
		}
		name, _, _ := bytes.Cut(header[from:from+n], []byte{0})
		return string(name)
	}

	return ""
}
