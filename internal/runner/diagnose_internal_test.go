package runner

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// elfProgram is the beginning of an ELF program of 64 bits that asks for a dynamic loader.
func elfProgram(loader string) []byte {
	var b bytes.Buffer
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	size := uint64(len(loader) + 1)
	for _, part := range []any{h, elf.Prog64{Type: uint32(elf.PT_PHDR)}, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 176, Filesz: size}} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a Buffer takes everything
	}
	return append(append(b.Bytes(), loader...), 0)
}

// TestLoaderOf reads the dynamic loader of programs, and survives headers that lie.
func TestLoaderOf(t *testing.T) {
	honest := elfProgram("/lib/ld.so")
	change := func(at int, value ...byte) []byte {
		out := bytes.Clone(honest)
		copy(out[at:], value)
		return out
	}

	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for _, tc := range []struct {
		name   string
		header []byte
		want   string
	}{
		{"honest", honest, "/lib/ld.so"},
		{"empty", nil, ""},
		{"short", honest[:63], ""},
		{"cut in the table", honest[:130], ""},
		{"cut in the name", honest[:180], ""},
		{"no programs", change(56, 0, 0), ""},
		{"table far away", change(32, huge...), ""},
		{"entries of no size", change(54, 0, 0), ""},
		{"name far away", change(120+8, huge...), ""},
		{"name without end", change(120+32, huge...), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := loaderOf(tc.header); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}

	for range 100000 { // none of them makes it panic
		header := bytes.Clone(honest)
		for range 4 {
			header[rand.IntN(len(header))] = byte(rand.UintN(256))
		}
		loaderOf(header[:rand.IntN(len(header)+1)])
	}
}

// TestComplaints passes everything on and keeps the last lines that matter, cut where they are
// long.
func TestComplaints(t *testing.T) {
	var passed strings.Builder
	c := &complaints{to: &passed}
	var want strings.Builder
	for i := range 40 {
		text := fmt.Sprintf("line %d\nsh: x%d: not ", i, i)
		for _, part := range []string{text, "found\n" + strings.Repeat("long ", 1000) + "not found\n"} {
			want.WriteString(part)
			if n, err := io.WriteString(c, part); n != len(part) || err != nil {
				t.Fatalf("wrote %d of %d: %v", n, len(part), err)
			}
		}
	}

	_, _ = io.WriteString(c, "the last: Read-only file system")
	if passed.String() != want.String()+"the last: Read-only file system" {
		t.Error("the output was changed")
	}
	all := c.all()
	if len(all) != maxComplaints || all[0] != "sh: x25: not found" || all[len(all)-1] != "the last: Read-only file system" {
		t.Errorf("kept %q", all)
	}
}

// TestTooLong names the largest variables, and the limit that was reached.
func TestTooLong(t *testing.T) {
	for _, tc := range []struct {
		name      string
		env, args []string
		want      string
	}{
		{"one string", []string{"A=1", "B=" + strings.Repeat("x", 1<<18)}, []string{"sh"}, "(largest: variable B 256KiB, variable A 4B, argument 0 of the command 3B); the kernel accepts 128KiB for one string"},
		{"many", []string{"A=" + strings.Repeat("x", 1<<10)}, []string{"sh", "-c", ":"}, "1 variables have 1.003KiB, the command 8B (largest: variable A 1.003KiB, "},
		{"the limit of one", []string{"A=" + strings.Repeat("x", kernelString-3)}, nil, "a quarter of the stack limit"},
		{"one more", []string{"A=" + strings.Repeat("x", kernelString-2)}, nil, "128KiB for one string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tooLong(&specs.Process{Env: tc.env, Args: tc.args})
			if !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q in it", got, tc.want)
			}
		})
	}
}
