package instructions_test

import (
	"errors"
	"fmt"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Parse a Dockerfile and print the stages with their instructions.
func ExampleParse() {
	f, err := instructions.Parse("Dockerfile", []byte(`FROM golang:1.26 AS build
RUN --mount=type=cache,target=/root/.cache go build -o /app .

FROM scratch
COPY --from=build /app /app
`))
	if err != nil {
		fmt.Println(err)
		return
	}

	for i, stage := range f.Stages {
		fmt.Printf("stage %d %q is based on %s\n", i, stage.Name, stage.Base)
		for _, in := range stage.Instructions {
			switch c := in.Command.(type) {
			case instructions.Run:
				fmt.Printf("  line %d runs %s with %d mount\n", in.Line, c.Args[0], len(c.Mounts))
			case instructions.Copy:
				fmt.Printf("  line %d copies %v from %s to %s\n", in.Line, c.Sources, c.From, c.Dest)
			}
		}
	}
	// Output:
	// stage 0 "build" is based on golang:1.26
	//   line 2 runs go build -o /app . with 1 mount
	// stage 1 "" is based on scratch
	//   line 5 copies [/app] from build to /app
}

// An error has the file, the line and often a hint.
func ExampleError() {
	_, err := instructions.Parse("Dockerfile", []byte("FROM alpine\nCOPY --chow=app . /app\n"))

	fault, ok := errors.AsType[*instructions.Error](err)
	if !ok {
		fmt.Println("no error of the Dockerfile:", err)
		return
	}
	fmt.Println("file:", fault.File)
	fmt.Println("line:", fault.Line)
	fmt.Println("text:", fault.Source[0])
	fmt.Println("hint:", fault.Hint)
	// Output:
	// file: Dockerfile
	// line: 2
	// text: COPY --chow=app . /app
	// hint: did you mean --chown?
}

// Apply the instructions of a stage to the config of an image.
func ExampleDraft() {
	f, err := instructions.Parse("Dockerfile", []byte("FROM scratch\nENV NAME=world\nWORKDIR app\nCMD echo hello\n"))
	if err != nil {
		fmt.Println(err)
		return
	}

	draft := instructions.NewDraft(instructions.Image{})
	for _, in := range f.Stages[0].Instructions {
		edit, ok := in.Command.(instructions.Editor)
		if !ok {
			continue // RUN, COPY and ADD change files
		}
		history, err := edit.Edit(draft)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("history:", history)
	}
	fmt.Println(draft.Config.Env, draft.Config.WorkingDir, draft.Config.Cmd)
	// Output:
	// history: ENV NAME=world
	// history: WORKDIR /app
	// history: CMD ["/bin/sh" "-c" "echo hello"]
	// [NAME=world] /app [/bin/sh -c echo hello]
}

// Replace variables in a word, with a limit for the size of the result.
func ExampleExpander_Word() {
	x := instructions.Expander{
		Escape: '\\',
		Lookup: func(name string) (string, bool) { return "1.2", name == "VERSION" },
	}

	word, err := x.Word("app-${VERSION}-${ARCH:-amd64}")
	fmt.Println(word, err)
	// Output: app-1.2-amd64 <nil>
}
