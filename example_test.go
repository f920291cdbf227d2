package rbuild_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"codeberg.org/rbuild/rbuild"
)

// Options are checked before a process is started.
func ExampleBuild() {
	_, err := rbuild.Build(context.Background(), rbuild.Options{Context: ".", Platform: "linux/arm64/v8/x"})
	fmt.Println(err)
	// Output: rbuild: platform "linux/arm64/v8/x": want OS/ARCH[/VARIANT]
}

func ExampleOptions() {
	epoch := time.Unix(0, 0)
	o := rbuild.Options{
		Context:   "https://example.org/app.git",
		Tags:      []string{"App"}, // a name is in lower case
		Timestamp: &epoch,
		Pull:      rbuild.PullNever,
	}
	_, err := rbuild.Build(context.Background(), o)
	fmt.Println(err)
	// Output: rbuild: tag "App": "App" is not the name of an image: repository name must be lowercase
}

func ExampleImage() {
	fmt.Println(rbuild.Image{ID: "5d0da3dc976460b72c77d94c8a1ad043720b0416bfc16c52c45d4847e53fadb6"})
	fmt.Println(rbuild.Image{ID: "5d0da3dc9764", Names: []string{"localhost/app:latest"}})
	// Output:
	// 5d0da3dc9764
	// localhost/app:latest
}

func ExampleResult() {
	var r rbuild.Result
	r.Image.Names = []string{"localhost/app:latest"}
	fmt.Println("built", r.Image)
	// Output: built localhost/app:latest
}

func ExampleEvent() {
	fmt.Println(rbuild.Event{Kind: rbuild.StepStarted, Number: 2, Total: 3, Stage: "build", Text: "RUN make"})
	fmt.Println(rbuild.Event{Kind: rbuild.StepDone, Number: 2, Total: 3, Text: "RUN make", Elapsed: 1200 * time.Millisecond})
	fmt.Println(rbuild.Event{Kind: rbuild.Warning, Text: "build argument V: no ARG declares it"})
	// Output:
	// [build 2/3] RUN make: started
	// [2/3] RUN make: done (1.2s)
	// warning: build argument V: no ARG declares it
}

func ExampleError() {
	var err error = &rbuild.Error{Text: "Dockerfile:2: RUN false: exit status 1", ExitCode: 1, Lines: []string{"RUN false"}, FirstLine: 2}
	if failed, ok := errors.AsType[*rbuild.Error](err); ok {
		fmt.Println("exit code", failed.ExitCode, "in line", failed.FirstLine)
	}
	// Output: exit code 1 in line 2
}
