// Package instructions parses Dockerfiles. It turns the text into stages of typed instructions and applies an instruction
// such as ENV or CMD to an image config.
//
// Use:
//
//	f, err := instructions.Parse("Dockerfile", text)
//	for _, stage := range f.Stages {
//		for _, in := range stage.Instructions {
//			switch c := in.Command.(type) {
//			case instructions.Run:
//				fmt.Println(in.Line, c.Args)
//			}
//		}
//	}
//
// The operands of an instruction are as written. Expander.Command replaces the variables in the operands. Editor.Edit
// applies an expanded command to a Draft, which is a copy of an image config. The package does not decide which variables
// a line can see: the caller looks variables up.
//
// Every error of a Parse function is an *Error with the name of the text and the line. The package refuses a flag that it
// does not know, by name and line, and never ignores a flag.
//
// A Dockerfile may consist of several texts (ParseTexts). A Range counts the lines of all texts together; File.Place
// converts a Range to a text and a line of that text.
//
// The package is pure: it uses no files, no network, no clock and no package variables that change. All functions may be
// called at the same time by several goroutines, and a File may be read by several goroutines.
//
// Limits. Larger inputs are errors: MaxFile (16 MiB a text), MaxLine (2 MiB a line), MaxInstructions (50,000) and
// MaxExpansion (1 MiB that variables add to a word). BuildKit's Dockerfile parser splits lines, here-documents and flags;
// the expansion of variables is an implementation of this package, because the work of an expansion must have a limit.
//
// Stability: the module is v0. Names and types may change in a minor version; the CHANGELOG lists such changes.
//
// Source: https://docs.docker.com/reference/dockerfile/ (frontend 1.26).
package instructions
