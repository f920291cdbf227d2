package binfmt

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"slices"
)

// machine describes the programs of an architecture.
type machine struct {
	qemu  string // name in the file name of the emulator: qemu-aarch64-static
	class elf.Class
	order elf.Data
	elf   elf.Machine
	flags uint32 // of the ELF header
	code  []byte // machine code of exit(0)
}

// machines returns the architectures for which there are Linux images, by the names of Go.
func machines() map[string]machine {
	const le, be, c32, c64 = elf.ELFDATA2LSB, elf.ELFDATA2MSB, elf.ELFCLASS32, elf.ELFCLASS64
	return map[string]machine{
		"386":      {"i386", c32, le, elf.EM_386, 0, []byte{0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80}},
		"amd64":    {"x86_64", c64, le, elf.EM_X86_64, 0, []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05}},
		"arm":      {"arm", c32, le, elf.EM_ARM, 0x05000000, words(0xe3a07001, 0xe3a00000, 0xef000000)},
		"arm64":    {"aarch64", c64, le, elf.EM_AARCH64, 0, words(0xd2800ba8, 0xd2800000, 0xd4000001)},
		"loong64":  {"loongarch64", c64, le, elf.EM_LOONGARCH, 0x43, words(0x0381740b, 0x03800004, 0x002b0000)},
		"mips64le": {"mips64el", c64, le, elf.EM_MIPS, 0x80000007, words(0x240213c2, 0x24040000, 0x0000000c)},
		"ppc64le":  {"ppc64le", c64, le, elf.EM_PPC64, 2, words(0x38000001, 0x38600000, 0x44000002)},
		"riscv64":  {"riscv64", c64, le, elf.EM_RISCV, 0, words(0x05d00893, 0x00000513, 0x00000073)},
		"s390x":    {"s390x", c64, be, elf.EM_S390, 0, []byte{0xa7, 0x29, 0, 0, 0x0a, 1}},
	}
}

// Architectures returns the known architectures in alphabetical order, by the names of Go: "386",
// "amd64", "arm" and so on.
func Architectures() []string { return slices.Sorted(maps.Keys(machines())) }

// Program returns a static ELF program for an architecture that exits with 0. It is nil for an
// unknown architecture.
func Program(architecture string) []byte {
	if m, ok := machines()[architecture]; ok {
		return m.program()
	}
	return nil
}

// words is machine code in words of 32 bits, little-endian.
func words(code ...uint32) []byte {
	var out []byte
	for _, w := range code {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

type byteOrders interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

func byteOrder(order elf.Data) byteOrders {
	if order == elf.ELFDATA2MSB {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// ident is the first part of the ELF header.
func (m machine) ident() (id [elf.EI_NIDENT]byte) {
	copy(id[:], elf.ELFMAG)
	id[elf.EI_CLASS] = byte(m.class)
	id[elf.EI_DATA] = byte(m.order)
	id[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	return id
}

// magic is the beginning of every program of the machine: ident, type and machine.
func (m machine) magic() []byte {
	id := m.ident()
	out := byteOrder(m.order).AppendUint16(id[:], uint16(elf.ET_EXEC))
	return byteOrder(m.order).AppendUint16(out, uint16(m.elf))
}

// mask has the bits of magic that count. The ABI does not count, nor whether the program has a
// fixed address (ET_EXEC is 2, ET_DYN is 3).
func (m machine) mask() []byte {
	out := bytes.Repeat([]byte{0xff}, elf.EI_NIDENT)
	out[elf.EI_OSABI] = 0
	out = byteOrder(m.order).AppendUint16(out, 0xfffe)
	return append(out, 0xff, 0xff)
}

// program is an ELF program: header, one segment, code.
func (m machine) program() []byte {
	const base, align = 0x400000, 0x10000 // a multiple of every page size
	var header, segment any
	if m.class == elf.ELFCLASS32 {
		const start = 52 + 32
		size := uint32(start + len(m.code))
		header = elf.Header32{
			Ident: m.ident(), Type: uint16(elf.ET_EXEC), Machine: uint16(m.elf), Version: uint32(elf.EV_CURRENT),
			Entry: base + start, Phoff: 52, Flags: m.flags, Ehsize: 52, Phentsize: 32, Phnum: 1,
		}
		segment = elf.Prog32{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: align,
		}
	} else {
		const start = 64 + 56
		size := uint64(start + len(m.code))
		header = elf.Header64{
			Ident: m.ident(), Type: uint16(elf.ET_EXEC), Machine: uint16(m.elf), Version: uint32(elf.EV_CURRENT),
			Entry: base + start, Phoff: 64, Flags: m.flags, Ehsize: 64, Phentsize: 56, Phnum: 1,
		}
		segment = elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: align,
		}
	}

	var out []byte
	for _, part := range []any{header, segment, m.code} {
		out, _ = binary.Append(out, byteOrder(m.order), part) // cannot fail: their sizes are fixed
	}

	return out
}

// Architecture returns the architecture of the ELF program that begins with header, by the name of
// Go, for example "arm64". It is "" if header is not that of an ELF program of a known
// architecture. header should have at least 20 bytes.
func Architecture(header []byte) string {
	if len(header) < elf.EI_NIDENT+4 || string(header[:len(elf.ELFMAG)]) != elf.ELFMAG {
		return ""
	}
	class, data := elf.Class(header[elf.EI_CLASS]), elf.Data(header[elf.EI_DATA])
	number := elf.Machine(byteOrder(data).Uint16(header[elf.EI_NIDENT+2:]))
	for name, m := range machines() {
		if m.class == class && m.order == data && m.elf == number {
			return name
		}
	}
	return ""
}
