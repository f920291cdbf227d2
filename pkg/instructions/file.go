package instructions

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	bk "github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Bounds of a Dockerfile, in bytes and in instructions.
const (
	MaxFile         = 16 << 20
	MaxLine         = 2 << 20 // with its continuations
	MaxInstructions = 50_000
)

// File is a parsed Dockerfile.
type File struct {
	Name     string        // name of the text; the names of several texts are separated by commas
	Lines    []string      // lines of all texts, without line ends
	Escape   rune          // escape character of the first text: '\\', or '`' by "# escape=`"; see EscapeAt
	Syntax   Syntax        // of the directive "# syntax="
	Check    string        // value of the directive "# check=" up to the first blank; may be empty
	Args     []Instruction // before the first FROM; each Command is an Arg
	Stages   []Stage
	Warnings []Warning
	Parts    []Part // the texts; empty if the File has one text

	// EmptyContinuations has the last line of each instruction that contains an empty line.
	EmptyContinuations []Range
}

// Stage is FROM with the instructions up to the next FROM.
type Stage struct {
	Range
	Name         string   // of AS, in lower case; may be empty
	Base         string   // as written, variables not replaced
	Platform     string   // of --platform as written
	After        []string // of --after: stages that run before this stage begins
	Text         string   // the FROM as written
	Words        []string // of the FROM as written, without flags: FROM BASE, or FROM BASE AS NAME
	Comments     []string // before the FROM, each without its #
	Instructions []Instruction
}

// Warning reports an accepted text that may not have the effect that the author expects.
type Warning struct {
	Range
	Msg string
}

// Parse parses a Dockerfile. The name appears in errors only; Parse opens no file. Every error is
// an *Error.
func Parse(name string, text []byte) (*File, error) {
	return ParseTexts(Text{Name: name, Data: text})
}

// ParseTexts parses one or more texts as one Dockerfile, in order, as buildah's repeated --file
// does. A continued line and a here-document end at the end of their text. Each text has its own
// escape directive. Of the directives syntax and check, the first directive of all texts counts.
// Every error is an *Error.
func ParseTexts(texts ...Text) (*File, error) {
	var f *File
	size, count := 0, 0
	for _, text := range texts {
		one, nodes, err := parseNodes(text.Name, text.Data)
		if err != nil {
			return nil, err
		}

		if f == nil {
			f = one
		} else {
			f.join(one, nodes)
		}

		size, count = size+len(text.Data), count+len(nodes)
		if size > MaxFile || count > MaxInstructions {
			return nil, f.Errorf(
				Range{},
				"together more than the %d bytes or %d instructions that a Dockerfile may have",
				MaxFile,
				MaxInstructions,
			)
		}
		for _, node := range nodes {
			if err := f.add(node); err != nil {
				return nil, err
			}
		}
	}

	if len(f.Stages) == 0 {
		return nil, f.Hintf(Range{}, "a stage begins with FROM", "no FROM")
	}

	return f, nil
}

// ParseTrigger parses one ONBUILD trigger, for example "RUN make". The name appears in errors, for
// example "ONBUILD trigger 1 of golang". The File has no stages; it serves to make errors with the
// line of the trigger.
func ParseTrigger(name, text string) (*File, Instruction, error) {
	f, nodes, err := parseNodes(name, []byte(text))
	if err != nil {
		return nil, Instruction{}, err
	}
	if len(nodes) != 1 {
		return nil, Instruction{}, f.Errorf(Range{Line: 1}, "a trigger is one instruction, not %d", len(nodes))
	}
	if strings.EqualFold(nodes[0].Value, "FROM") {
		return nil, Instruction{}, f.Errorf(Range{Line: 1}, "FROM cannot be a trigger")
	}

	in, err := f.instruction(nodes[0])
	return f, in, err
}

// parseNodes checks the limits, reads the directives and splits the text into instructions.
func parseNodes(name string, text []byte) (*File, []*parser.Node, error) {
	f := &File{Name: name, Escape: parser.DefaultEscapeToken}
	if len(text) > MaxFile {
		return nil, nil, f.Errorf(Range{}, "%d bytes, more than the %d that a Dockerfile may have", len(text), MaxFile)
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return nil, nil, f.Hintf(Range{Line: 1 + bytes.Count(text[:i], []byte{'\n'})},
			"is it UTF-16? a Dockerfile is UTF-8", "a zero byte: not a text file")
	}

	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	f.Lines = strings.Split(string(text), "\n")
	for i, line := range f.Lines {
		f.Lines[i] = strings.TrimSuffix(line, "\r")
	}
	if err := refusePreprocessor(f); err != nil {
		return nil, nil, err
	}
	if err := f.directives(); err != nil {
		return nil, nil, err
	}

	res, err := f.split(text)
	if err != nil {
		return nil, nil, err
	}
	if n := len(res.AST.Children); n > MaxInstructions {
		return nil, nil, f.Errorf(nodeRange(res.AST.Children[MaxInstructions]),
			"%d instructions, more than the %d that a Dockerfile may have", n, MaxInstructions)
	}

	return f, res.AST.Children, nil
}

// directives reads the directives: the comments "# NAME=VALUE" at the start of the file.
func (f *File) directives() error {
	var d parser.DirectiveParser
	for i, line := range f.Lines {
		found, err := d.ParseLine([]byte(strings.TrimSpace(line)))
		if err != nil {
			return f.Errorf(Range{Line: i + 1}, "%s", err)
		}
		if found == nil {
			return nil
		}
		switch found.Name {
		case "syntax":
			f.Syntax.Line = i + 1
			f.Syntax.Image, _, _ = strings.Cut(found.Value, " ")
		case "escape":
			if found.Value != "`" && found.Value != `\` {
				return f.Errorf(Range{Line: i + 1}, "the escape character %q is neither \\ nor `", shown(found.Value))
			}
			f.Escape = rune(found.Value[0])
		case "check":
			f.Check, _, _ = strings.Cut(found.Value, " ")
			if _, err := linter.ParseLintOptions(f.Check); err != nil {
				return f.Errorf(Range{Line: i + 1}, "directive check: %s", err)
			}
		}
	}

	return nil
}

func (f *File) warn(r Range, format string, args ...any) {
	f.Warnings = append(f.Warnings, Warning{Range: r, Msg: fmt.Sprintf(format, args...)})
}

// split splits the text into instructions with BuildKit's parser. Lines that are too long for the
// parser are cut before and restored after the call.
func (f *File) split(text []byte) (*parser.Result, error) {
	place := func(r Range) Range { return r }
	var short *shortener
	for _, line := range f.Lines {
		if len(line) > parserLine {
			var err error
			if short, err = shorten(f, text, parserLine); err != nil {
				return nil, err
			}
			text, place = short.out.Bytes(), short.place
			break
		}
	}

	res, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		r, _ := parserRange(err)
		if strings.Contains(err.Error(), "file with no instructions") {
			r = Range{}
		}
		return nil, f.Errorf(place(r), "%s", plain(err))
	}

	if short != nil {
		short.restore(res.AST.Children)
	}
	for _, w := range res.Warnings {
		f.EmptyContinuations = append(f.EmptyContinuations, place(Range{Line: w.Location.Start.Line}))
	}

	return res, nil
}

// plain returns the message of the innermost error, without the lines that BuildKit's parser adds.
func plain(err error) string {
	if loc, ok := errors.AsType[*parser.LocationError](err); ok {
		return loc.Unwrap().Error()
	}
	return err.Error()
}

// naming puts the name of the instruction before a message without that name.
func naming(name, msg string) string {
	if strings.Contains(strings.ToUpper(msg), name) {
		return msg
	}
	return name + ": " + msg
}

func nodeRange(n *parser.Node) Range { return Range{Line: n.StartLine, EndLine: n.EndLine} }

// add converts a node and appends it to the file.
func (f *File) add(node *parser.Node) error {
	if strings.EqualFold(node.Value, "FROM") {
		return f.addStage(node)
	}

	in, err := f.instruction(node)
	if err != nil {
		return err
	}
	if n := len(f.Stages); n > 0 {
		f.Stages[n-1].Instructions = append(f.Stages[n-1].Instructions, in)
		return nil
	}
	if _, ok := in.Command.(Arg); !ok {
		return f.Hintf(in.Range, "only ARG is allowed before FROM", "%s before the first FROM", in.Name)
	}

	f.Args = append(f.Args, in)
	return nil
}

func (f *File) addStage(node *parser.Node) error {
	after, err := takeAfter(f, node)
	if err != nil {
		return err
	}

	name, restore := hideSlashes(node)
	cmd, err := f.parse(node)
	restore()
	if err != nil {
		return err
	}

	st, ok := cmd.(*bk.Stage)
	if !ok {
		return f.Errorf(nodeRange(node), "unexpected instruction of type %T", cmd)
	}

	if name != "" {
		st.Name = name
	}
	words := []string{node.Value}
	for n := node.Next; n != nil; n = n.Next {
		words = append(words, n.Value)
	}
	f.Stages = append(f.Stages, Stage{
		Range:    nodeRange(node),
		Name:     st.Name,
		Base:     st.BaseName,
		Platform: st.Platform,
		After:    after,
		Text:     oneLine(node),
		Words:    words,
		Comments: node.PrevComment,
	})

	return nil
}

// slashedName matches a stage name with slashes, for example a/b. buildah accepts such a name,
// BuildKit does not.
var slashedName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z][a-z0-9-_.]*(/[a-z0-9-_.]+)+$`)
})

// hideSlashes replaces a stage name with slashes by a name that BuildKit's parser accepts, until
// restore is called. The result is the name of the stage in lower case; it is empty if the name has
// no slashes.
func hideSlashes(node *parser.Node) (name string, restore func()) {
	base := node.Next
	if base == nil || base.Next == nil || base.Next.Next == nil || base.Next.Next.Next != nil {
		return "", func() {}
	}
	word := base.Next.Next
	written := word.Value
	if name = strings.ToLower(written); !slashedName().MatchString(name) {
		return "", func() {}
	}
	word.Value = strings.ReplaceAll(written, "/", ".")
	return name, func() { word.Value = written }
}

// takeAfter removes the --after flags from a FROM and returns their values. --after is a flag of
// buildah that BuildKit's parser refuses.
func takeAfter(f *File, node *parser.Node) (after []string, err error) {
	var rest []string
	for _, flag := range node.Flags {
		key, name, _ := strings.Cut(fromLatin1(flag), "=")
		if key != "--after" {
			rest = append(rest, flag)
			continue
		}
		if name == "" {
			return nil, f.Errorf(nodeRange(node), "FROM --after needs the name of a stage")
		}
		after = append(after, name)
	}

	node.Flags = rest
	return after, nil
}

// instruction converts one node that is not FROM.
func (f *File) instruction(node *parser.Node) (Instruction, error) {
	in := Instruction{
		Range: nodeRange(node), Name: strings.ToUpper(node.Value), Text: oneLine(node),
		Word: node.Value, Comments: node.PrevComment,
	}

	cmd, err := f.parse(node)
	if err != nil {
		return in, err
	}
	if in.Command, err = convert(cmd); err != nil {
		return in, f.At(in.Range, err)
	}

	switch c := in.Command.(type) {
	case Run:
		if c.Mounts, err = f.mounts(node); err != nil {
			return in, f.At(in.Range, err)
		}
		in.Command = c
	case Onbuild:
		return in, f.checkTrigger(in.Range, c.Trigger)
	case Healthcheck:
		if c.Check.Test[0] == "NONE" && len(node.Flags) > 0 {
			f.warn(in.Range, "HEALTHCHECK NONE ignores its flags")
		}
	}

	return in, nil
}

// mounts reads the --mount flags of RUN.
func (f *File) mounts(node *parser.Node) (out []MountFlag, err error) {
	for _, flag := range node.Flags {
		text, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}

		m, err := parseMountFlag(text)
		if err != nil {
			return nil, err
		}

		if mount, err := m.Mount(); err == nil && len(mount.Idle) > 0 {
			f.warn(nodeRange(node), "a mount of type %s ignores %s", mount.Type, strings.Join(mount.Idle, ", "))
		}
		out = append(out, m)
	}

	return out, nil
}

// checkTrigger reports an error that a build on this image would report. A trigger may have a flag
// that only this version of rbuild refuses, because another tool may execute the trigger.
func (f *File) checkTrigger(r Range, text string) error {
	_, _, err := ParseTrigger(f.Name, text)
	e, ok := errors.AsType[*Error](err)
	if !ok || e.refused {
		return nil
	}
	return f.Hintf(r, e.Hint, "ONBUILD: %s", e.Msg)
}

// parse checks the flags and parses the operands with BuildKit's parser.
func (f *File) parse(node *parser.Node) (any, error) {
	r := nodeRange(node)
	if err := checkNode(f, node); err != nil {
		return nil, err
	}
	if next := node.Next; next != nil && len(next.Children) == 1 &&
		strings.EqualFold(next.Children[0].Value, "ONBUILD") {
		return nil, f.Errorf(r, "ONBUILD may not be the trigger of ONBUILD") // BuildKit looks at all of a chain first
	}

	var lint *linter.Linter
	if len(node.PrevComment) > 0 {
		lint = linter.New(&linter.Config{}) // BuildKit's ParseInstruction, without one, crashes on a comment "# check="
	}
	cmd, err := bk.ParseInstructionWithLinter(node, lint)
	if err != nil {
		return nil, f.Errorf(r, "%s", naming(strings.ToUpper(node.Value), plain(err)))
	}
	return cmd, nil
}

// oneLine returns the instruction as written, on one line, with the name in upper case.
func oneLine(node *parser.Node) string {
	text := strings.TrimSpace(node.Original)
	if n := len(node.Value); n <= len(text) {
		return strings.ToUpper(text[:n]) + text[n:]
	}
	return text
}

// RightAbove returns comments if no empty line separates them from the instruction at r, and nil
// otherwise: comments above an empty line do not describe the instruction (the rule is BuildKit's).
func (f *File) RightAbove(r Range, comments []string) []string {
	if r.Line < 2 || r.Line-2 >= len(f.Lines) || strings.TrimSpace(f.Lines[r.Line-2]) == "" {
		return nil
	}
	return comments
}

// WarningText formats a warning for display: "FILE:LINE: MSG", followed by the lines with their
// numbers.
func (f *File) WarningText(w Warning) string {
	at := f.Place(w.Range)
	text := at.File
	if at.Line > 0 {
		text = fmt.Sprintf("%s:%d", at.File, at.Line)
	}
	return strings.Join(append([]string{text + ": " + w.Msg}, Numbered(at.Line, f.Excerpt(w.Range))...), "\n")
}
