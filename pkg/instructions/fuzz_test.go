package instructions

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// FuzzParse: the parser never panics, every error has the name of the file, and every accepted file
// can be expanded and applied to a config.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"FROM scratch\n",
		"# escape=`\n# syntax=x\nARG A=1 B\nFROM --platform=$X a:$A AS b\nENV A=`$x 'b c'=d\n",
		"FROM a\nRUN <<A cat <<-'B' && x\na\nA\n\tb\nB\nCOPY --from=x --chown=a:b <<F g /d/\nx$y\nF\n",
		"FROM a\nRUN [\"a\", \"b\"]\nCMD []\nENTRYPOINT x\nSHELL [\"s\"]\nHEALTHCHECK --interval=1s CMD x\nHEALTHCHECK NONE\n",
		"FROM a\nONBUILD RUN <<E\nx\nE\nONBUILD ONBUILD RUN\nMAINTAINER x\nVOLUME [\"/a\"] \nSTOPSIGNAL 9\n",
		"FROM a\nEXPOSE 80-90/TCP 1:2\nUSER a:b\nWORKDIR rel/\nLABEL a b c\nADD --checksum=x http://a b \\\n\n # c\n c/\n",
	} {
		f.Add([]byte(text))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("F", text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is no *Error: %v", err, err)
			}
			if lines := bytes.Count(text, []byte{'\n'}) + 1; e.Line < 0 || e.Line > lines || e.EndLine > lines || e.EndLine < e.Line {
				t.Fatalf("lines %d-%d of %d: %v", e.Line, e.EndLine, lines, err)
			}
			return
		}

		x := Expander{Escape: file.Escape, Lookup: func(name string) (string, bool) { return "v" + name, name != "u" }}
		for _, st := range file.Stages {
			img := NewDraft(Image{})
			for _, in := range st.Instructions {
				if in.Line < 1 || in.EndLine < in.Line || in.EndLine > len(file.Lines) || !strings.HasPrefix(in.Text, in.Name) {
					t.Fatalf("instruction %+v", in)
				}
				cmd, err := x.Command(in.Command)
				if err != nil {
					return
				}
				if e, ok := cmd.(Editor); ok {
					if _, err = e.Edit(img); err != nil {
						return
					}
				}
			}
		}
	})
}

// FuzzExpand compares the expander with BuildKit's expander for texts that BuildKit's expander
// preserves.
func FuzzExpand(f *testing.F) {
	for _, word := range []string{
		"$a", "${b}", `"$a'$b"`, `'$a'`, `\$a`, "${u:-x$b}", "${a+y}", "${e:?m}", "${u?}", "${a#*b}", "${a##*b}", "${a%b*}",
		"${a%%b*}", "${a/b/c}", "${a//b/${b}}", "${a/\\//x}", "$$", "${", "${a", "$1a", "${a:=b}", "`a`$b", "<<x $a", "${#a}",
	} {
		f.Add(word, "abcabc", "b*", false, false)
		f.Add(word, "äbä", "x y", true, true)
	}

	f.Fuzz(func(t *testing.T, word, a, b string, backtick, text bool) {
		for _, s := range []string{word, a, b} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\ufeff") || len(s) > 1000 {
				return
			}
		}

		escape := '\\'
		if backtick {
			escape = '`'
		}
		env := map[string]string{"a": a, "b": b, "e": ""}
		lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		x := Expander{Escape: escape, Lookup: lookup}
		got, err := x.Word(word)
		lex := shell.NewLex(escape)
		if text {
			got, err = x.Text(word)
			lex = shell.NewLex('\\')
			lex.SkipProcessQuotes = true
		}

		want, _, wantErr := lex.ProcessWord(word, shell.EnvsFromSlice([]string{"a=" + a, "b=" + b, "e="}))
		if err != nil && (strings.Contains(err.Error(), "nested") || errors.Is(err, errTooLong)) {
			return
		}
		if err != nil && strings.Contains(word, "%") && strings.Contains(err.Error(), "invalid pattern") {
			return // BuildKit turns the pattern of a suffix round before it looks at the escapes in it, and then misses some
		}

		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q (a=%q b=%q escape %c): %q, %v; BuildKit: %q, %v", word, a, b, escape, got, err, want, wantErr)
		}
		literal := strings.Contains(word, "//") && strings.Count(word+b+a, "$") > 1 // BuildKit takes $ in the replacement for a group
		if err == nil && got != want && !literal {
			t.Fatalf("%q (a=%q b=%q escape %c): %q; BuildKit: %q", word, a, b, escape, got, want)
		}
	})
}

// FuzzShorten: cutting long lines does not change the result of the parser.
func FuzzShorten(f *testing.F) {
	f.Add([]byte("FROM a\nRUN aaaa bbbb cccc dddd eeee \\\n # c\n ffff gggg hhhh\nENV a=b\n"))
	f.Add([]byte("# escape=`\nFROM a\nRUN <<E cat <<-F\naaaaaaaaaaaaaaaaaaaaaaa\nE\n\tbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n\tF\nENV a=b`\nc\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 16
		direct := &File{Name: "F", Escape: '\\', Lines: strings.Split(string(text), "\n")}
		if bytes.IndexByte(text, 0) >= 0 || direct.directives() != nil || bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
			return
		}

		for _, line := range direct.Lines { // terminators and directives are not cut
			if len(line) > limit && (strings.HasPrefix(strings.TrimSpace(line), "#") || len(line) > 1000) {
				return
			}
		}

		want, err := parser.Parse(bytes.NewReader(text))
		if err != nil {
			return
		}

		for _, n := range want.AST.Children {
			for _, h := range n.Heredocs {
				if len(h.Name) > limit-4 {
					return
				}
			}
		}

		s, err := shorten(direct, text, limit)
		if err != nil {
			return
		}

		got, err := parser.Parse(bytes.NewReader(s.out.Bytes()))
		if err != nil {
			t.Fatalf("%v in %q", err, s.out.String())
		}
		s.restore(got.AST.Children)
		if d := cmp.Diff(want.AST.Children, got.AST.Children, cmpopts.IgnoreFields(parser.Node{}, "PrevComment")); d != "" {
			t.Fatalf("%s\nin %q", d, s.out.String())
		}
	})
}

// FuzzMount: no --mount makes the parser panic, and an accepted mount has a known type with the
// options that the type must have.
func FuzzMount(f *testing.F) {
	for _, text := range []string{
		"target=/a", "type=bind,from=b,source=/s,target=t,rw=true", `type=cache,"target=/a,b",id=i,sharing=locked,mode=0700,uid=1,gid=2,ro`,
		"type=tmpfs,dst=/t,size=1g,tmpfs-mode=1777", "type=secret,id=a,env=B,required", "type=ssh,mode=0666", "type=$T,target=$A",
		`type=bind,target='a b',src=\x`, ",", `"`, "type=cache,target=/x,z",
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		flag, err := parseMountFlag(text)
		if err != nil {
			return
		}

		x := Expander{Escape: '\\', Lookup: func(string) (string, bool) { return "", false }}
		c, err := x.Command(Run{Mounts: []MountFlag{flag}})
		if err != nil {
			return
		}

		run, _ := c.(Run)
		m, err := run.Mounts[0].Mount()
		if err != nil {
			return
		}

		_, known := mountUses[m.Type]
		named := m.ID != "" || m.Type == MountBind || m.Type == MountTmpfs
		if !known || !named || m.Size < 0 || (m.Type == MountCache) != (m.Sharing != "") || (m.Mode != nil && *m.Mode > 0o7777) {
			t.Fatalf("%q gives %+v", text, m)
		}
		if !strings.ContainsAny(text, "$\\`'\"") {
			if again, err := flag.Mount(); err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("%q: %+v, unexpanded %+v, %v", text, m, again, err)
			}
		}
	})
}
