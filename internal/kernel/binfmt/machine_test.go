package binfmt

import (
	"bytes"
	"debug/elf"
	"runtime"
	"slices"
	"testing"
)

// TestProgram: each program is a valid ELF file whose header names its architecture and matches its magic.
func TestProgram(t *testing.T) {
	names := Architectures()
	if !slices.IsSorted(names) || !slices.Contains(names, runtime.GOARCH) {
		t.Errorf("architectures: %v", names)
	}

	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			text := Program(name)
			f, err := elf.NewFile(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			m := machines()[name]
			if f.Class != m.class || f.Data != m.order || f.Machine != m.elf || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
				t.Errorf("%+v", f.FileHeader)
			}
			segment := f.Progs[0]
			if segment.Type != elf.PT_LOAD || f.Entry < segment.Vaddr || f.Entry+uint64(len(m.code)) != segment.Vaddr+segment.Filesz {
				t.Errorf("entry %#x in %+v", f.Entry, segment.ProgHeader)
			}
			if got := Architecture(text); got != name {
				t.Errorf("the header says %q", got)
			}
			if magic := m.magic(); !bytes.HasPrefix(text, magic) || len(magic) != len(m.mask()) {
				t.Errorf("magic %x, mask %x", magic, m.mask())
			}
		})
	}
}

// TestMask: a program with another ABI or a relocatable program matches too, one for another machine does not.
func TestMask(t *testing.T) {
	m := machines()["s390x"] // big-endian: the type is two bytes in the other order
	matches := func(edit func(header []byte)) bool {
		header := m.program()
		edit(header)
		for i, mask := range m.mask() {
			if header[i]&mask != m.magic()[i]&mask {
				return false
			}
		}
		return true
	}

	for _, tc := range []struct {
		name string
		edit func(header []byte)
		want bool
	}{
		{"same", func([]byte) {}, true},
		{"another ABI", func(h []byte) { h[elf.EI_OSABI] = byte(elf.ELFOSABI_LINUX) }, true},
		{"relocatable", func(h []byte) { h[elf.EI_NIDENT+1] = byte(elf.ET_DYN) }, true},
		{"a core file", func(h []byte) { h[elf.EI_NIDENT+1] = byte(elf.ET_CORE) }, false},
		{"another machine", func(h []byte) { h[elf.EI_NIDENT+3]++ }, false},
		{"another class", func(h []byte) { h[elf.EI_CLASS] = byte(elf.ELFCLASS32) }, false},
	} {
		if got := matches(tc.edit); got != tc.want {
			t.Errorf("%s: matches %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestArchitectureOfNone(t *testing.T) {
	for name, header := range map[string][]byte{
		"empty":           nil,
		"short":           []byte(elf.ELFMAG),
		"a script":        []byte("#!/bin/sh\n0123456789abcdef"),
		"unknown machine": append([]byte(elf.ELFMAG+"\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00"), 0xff, 0xff),
	} {
		if got := Architecture(header); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	if Program("pdp11") != nil {
		t.Error("there is a program for an unknown architecture")
	}
}

func TestEscape(t *testing.T) {
	if got := escape([]byte{0x7f, 'E', 0}); got != `\x7f\x45\x00` {
		t.Errorf("got %s", got)
	}
}
