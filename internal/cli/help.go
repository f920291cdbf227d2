package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The subjects of flags, in the order in which help lists them.
const (
	SubjectInput         = "Input"
	SubjectImage         = "Image"
	SubjectCache         = "Cache"
	SubjectRun           = "RUN"
	SubjectNetwork       = "Network of RUN"
	SubjectLimits        = "Limits"
	SubjectSecurity      = "Security"
	SubjectRegistry      = "Registry"
	SubjectOutput        = "Output"
	SubjectCompatibility = "Compatibility"
)

// Subjects returns the subjects in the order of help.
func Subjects() []string {
	return []string{
		SubjectInput, SubjectImage, SubjectCache, SubjectRun, SubjectNetwork,
		SubjectLimits, SubjectSecurity, SubjectRegistry, SubjectOutput, SubjectCompatibility,
	}
}

// subjectKey is the annotation of a flag that names its subject.
const subjectKey = "rbuild_subject"

// section defines flags of one subject: define adds them to a set of their own, which is then added to fs.
func section(fs *pflag.FlagSet, subject string, define func(*pflag.FlagSet)) {
	own := pflag.NewFlagSet(subject, pflag.ContinueOnError)
	define(own)
	own.VisitAll(func(f *pflag.Flag) {
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[subjectKey] = []string{subject}
	})
	fs.AddFlagSet(own)
}

// hide leaves flags out of the help. The names must be defined.
func hide(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		fs.Lookup(name).Hidden = true
	}
}

// subjectOf returns the subject of a flag, or "".
func subjectOf(f *pflag.Flag) string {
	if list := f.Annotations[subjectKey]; len(list) > 0 {
		return list[0]
	}
	return ""
}

// helpColumns is the width of the help of flags.
const helpColumns = 120

// FlagUsages returns the help of a command's flags. Flags of a subject stand below a heading; all other flags come first.
func FlagUsages(fs *pflag.FlagSet) string {
	groups := map[string]*pflag.FlagSet{}
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		subject := subjectOf(f)
		if groups[subject] == nil {
			groups[subject] = pflag.NewFlagSet(subject, pflag.ContinueOnError)
		}
		groups[subject].AddFlag(f)
	})

	var b strings.Builder
	for _, subject := range append([]string{""}, Subjects()...) {
		group := groups[subject]
		if group == nil {
			continue
		}
		heading := "Flags"
		if subject != "" {
			heading = subject
		}
		fmt.Fprintf(&b, "\n%s:\n%s", heading, group.FlagUsagesWrapped(helpColumns))
	}
	return b.String()
}

// SetHelp makes a command, and the commands below it, print its flags by subject.
func SetHelp(cmd *cobra.Command) {
	cmd.SetUsageFunc(func(c *cobra.Command) error { return writeUsage(c.OutOrStderr(), c) })
}

func writeUsage(w io.Writer, c *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n")
	if c.Runnable() {
		fmt.Fprintf(&b, "  %s\n", c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s COMMAND\n", c.CommandPath())
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases:\n  %s\n", c.NameAndAliases())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}

	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}

	if c.HasAvailableLocalFlags() {
		b.WriteString(FlagUsages(c.LocalFlags()))
	}
	if c.HasAvailableInheritedFlags() {
		fmt.Fprintf(&b, "\nFlags of every command:\n%s", c.InheritedFlags().FlagUsagesWrapped(helpColumns))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nRun \"%s COMMAND --help\" for the flags of a command.\n", c.CommandPath())
	}

	_, err := io.WriteString(w, b.String())
	return err
}
