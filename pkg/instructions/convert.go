package instructions

import (
	"fmt"
	"slices"
	"strings"

	bk "github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// convert turns a command of BuildKit's parser into a Command.
func convert(cmd any) (Command, error) {
	switch c := cmd.(type) {
	case *bk.ArgCommand:
		var a Arg
		for _, v := range c.Args {
			a.Vars = append(a.Vars, ArgPair{Key: v.Key, Default: v.Value})
		}
		return a, nil
	case *bk.EnvCommand:
		return Env{Vars: pairs(c.Env), Legacy: legacy(c.Env)}, nil
	case *bk.LabelCommand:
		return Label{Labels: pairs(c.Labels), Legacy: legacy(c.Labels)}, nil
	case *bk.UserCommand:
		return User{c.User}, nil
	case *bk.WorkdirCommand:
		return Workdir{c.Path}, nil
	case *bk.ExposeCommand:
		return Expose{c.Ports}, nil
	case *bk.VolumeCommand:
		return Volume{c.Volumes}, nil
	case *bk.StopSignalCommand:
		return StopSignal{c.Signal}, nil
	case *bk.ShellCommand:
		return Shell{c.Shell}, nil
	case *bk.MaintainerCommand:
		return Maintainer{c.Maintainer}, nil
	case *bk.OnbuildCommand:
		return Onbuild{c.Expression}, nil
	case *bk.CmdCommand:
		return Cmd{cmdLine(c.ShellDependantCmdLine)}, nil
	case *bk.EntrypointCommand:
		return Entrypoint{CmdLine: cmdLine(c.ShellDependantCmdLine)}, nil
	case *bk.HealthCheckCommand:
		return Healthcheck{*c.Health}, nil
	case *bk.RunCommand:
		return convertRun(c)
	case *bk.CopyCommand:
		cp := Copy{
			From: c.From, Chown: c.Chown, Chmod: c.Chmod, Exclude: c.ExcludePatterns, Parents: c.Parents, Link: c.Link,
		}
		err := sources(&cp, c.SourcesAndDest)
		return cp, err
	case *bk.AddCommand:
		cp := Copy{
			Add: true, Chown: c.Chown, Chmod: c.Chmod, Checksum: c.Checksum,
			Exclude: c.ExcludePatterns, Link: c.Link, Unpack: c.Unpack, KeepGitDir: c.KeepGitDir,
		}
		err := sources(&cp, c.SourcesAndDest)
		return cp, err
	}

	return nil, fmt.Errorf("unexpected instruction of type %T", cmd)
}

func pairs(kvs bk.KeyValuePairs) []Pair {
	out := make([]Pair, len(kvs))
	for i, kv := range kvs {
		out[i] = Pair{Key: kv.Key, Value: kv.Value}
	}
	return out
}

// legacy reports whether a pair was written without =, as in ENV NAME VALUE.
func legacy(kvs bk.KeyValuePairs) bool {
	return slices.ContainsFunc(kvs, func(kv bk.KeyValuePair) bool { return kv.NoDelim })
}

func cmdLine(c bk.ShellDependantCmdLine) CmdLine {
	return CmdLine{Args: c.CmdLine, Shell: c.PrependShell}
}

func convertRun(c *bk.RunCommand) (Command, error) {
	run := Run{
		CmdLine:  cmdLine(c.ShellDependantCmdLine),
		Network:  bk.GetNetwork(c),
		Insecure: bk.GetSecurity(c) == bk.SecurityInsecure,
	}
	for _, d := range c.Files {
		if err := checkDocName(d.Name); err != nil {
			return nil, err
		}
		run.Docs = append(run.Docs, Heredoc{Name: d.Name, Data: d.Data, Strip: d.Chomp})
	}
	if !run.Shell && len(run.Args) == 0 {
		return nil, fmt.Errorf("RUN with an empty list has no command")
	}
	return run, nil
}

func sources(cp *Copy, s bk.SourcesAndDest) error {
	cp.Sources, cp.Dest = s.SourcePaths, s.DestPath
	for _, c := range s.SourceContents {
		if err := checkDocName(c.Path); err != nil {
			return err
		}
		cp.Inline = append(cp.Inline, InlineFile{Name: c.Path, Data: c.Data, Expand: c.Expand})
	}
	return nil
}

// checkDocName refuses a here-document whose name, which becomes a file's,
// is not one path element.
func checkDocName(name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("here-document name %q is no file name", name)
	}
	return nil
}
