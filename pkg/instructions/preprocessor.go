package instructions

import (
	"regexp"
	"strings"
	"sync"
)

// preprocessorLine matches a directive of the C preprocessor, for example #include. A Dockerfile treats the line as a comment.
var preprocessorLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^#(include|define|undef|if|ifdef|ifndef|elif|else|endif|error|pragma)\b`)
})

// refusePreprocessor refuses a file that has a name with the ending .in and a directive of the C preprocessor: buildah would run
// the preprocessor on the file, and the result would differ.
func refusePreprocessor(f *File) error {
	if !strings.HasSuffix(f.Name, ".in") {
		return nil
	}
	for i, line := range f.Lines {
		if found := preprocessorLine().FindString(line); found != "" {
			return f.Hintf(Range{Line: i + 1}, "run it yourself: cpp -E -traditional -undef -P "+shown(f.Name),
				"%s is refused: the C preprocessor is not run on files that end with .in", found)
		}
	}
	return nil
}
