// Package instructions turns the text of a Dockerfile into stages of typed
// instructions, and gives each instruction that edits the image's config as a
// pure function on it.
//
// Use:
//
//	f, err := instructions.Parse("Dockerfile", text)
//	for _, stage := range f.Stages {
//		for _, in := range stage.Instructions {
//			switch c := in.Command.(type) { ... }
//		}
//	}
//
// The words of an instruction are as written; an Expander replaces the
// variables in them (Expander.Command), and an Editor applies the result to a
// config. What is visible at which line is the business of package plan.
//
// The package is pure: no files, no network, no clock. Lines, here-documents
// and flags are split by BuildKit's Dockerfile parser; expansion is our own,
// because every result of it has to be bounded (see Expander).
//
// Every error is an *Error with the file's name and the line. A flag of the
// language that this version cannot carry out is refused by name and line
// (table refused); nothing is skipped in silence.
//
// A Dockerfile may be made of several texts (ParseTexts). A Range counts their
// lines together; File.Place gives the text and the line in it.
//
// Limits: MaxFile, MaxLine, MaxInstructions and MaxExpansion.
//
// Source: https://docs.docker.com/reference/dockerfile/ (frontend 1.26).
package instructions
