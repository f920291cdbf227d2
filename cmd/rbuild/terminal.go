package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// This file is the only one that names os.Stdout and os.Stderr (TestOneDoor). Text goes to app.stdout and app.stderr, which
// are safe on a terminal. Archives and tars go to stdoutFile.

// openStreams sets the streams of the app, and sends the log lines of the libraries to standard error.
func (a *app) openStreams() {
	color := os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
	a.stdout = progress.NewStream(os.Stdout, color)
	a.stderr = progress.NewStream(os.Stderr, color)

	logrus.SetOutput(a.stderr)
	if a.stderr.Terminal() {
		logrus.SetFormatter(&logFormatter{began: time.Now()})
		logrus.SetOutput(logWriter{a.stderr})
	}
}

// reportTo makes pull and push show their progress on standard error.
func (a *app) reportTo(o *transfer.Options) {
	o.Report = a.stderr
	if a.stderr.Terminal() {
		o.Bars = a.stderr.Raw()
	}
}

// stdoutFile is standard output for an archive, or for the command of unshare.
func stdoutFile() *os.File { return os.Stdout }

// stderrFile is standard error for the command of unshare.
func stderrFile() *os.File { return os.Stderr }

// logFormatter writes a log entry for a terminal on one line, as logrus does: "WARN[0002] text name=value".
type logFormatter struct{ began time.Time }

// levelLength is how many letters of the level are shown.
const levelLength = 4

// Format implements logrus.Formatter.
func (f *logFormatter) Format(e *logrus.Entry) ([]byte, error) {
	var b bytes.Buffer
	level := bytes.ToUpper([]byte(e.Level.String()))[:levelLength]
	fmt.Fprintf(&b, "%s[%04d] %s", level, int(e.Time.Sub(f.began).Seconds()), progress.Line(e.Message))
	for _, name := range slices.Sorted(maps.Keys(e.Data)) {
		fmt.Fprintf(&b, " %s=%s", progress.Line(name), progress.Line(fmt.Sprint(e.Data[name])))
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// logWriter shows the level of a log line in colour. Each write is a line of logFormatter.
type logWriter struct{ to *progress.Stream }

func (w logWriter) Write(line []byte) (int, error) {
	style := progress.Bold
	switch line[0] {
	case 'W':
		style = progress.Yellow
	case 'E', 'F', 'P': // error, fatal, panic
		style = progress.Red
	}
	err := progress.Print(w.to, progress.Piece{Style: style, Text: string(line[:levelLength])},
		progress.Piece{Text: string(line[levelLength:])})
	return len(line), err
}
