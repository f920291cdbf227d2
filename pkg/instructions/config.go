package instructions

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Editor is a command that changes the image config and no files.
//
// Edit changes the draft and returns the text of the history entry in BuildKit's form, for example "ENV A=1". The text is empty
// for ONBUILD, for which BuildKit writes no entry. The caller expands the command before Edit. After an error the draft may
// contain a part of the change.
type Editor interface {
	Command
	Edit(d *Draft) (string, error)
}

// Draft is a copy of an image config that commands edit in place. A Draft shares no slice or map with the image that it was
// made from. A copy for every edit would make the time for a Dockerfile grow with the square of its length. A Draft is not
// safe for concurrent use.
type Draft struct {
	Image

	env   map[string]int // name -> index in Config.Env
	ports int            // number of ports of all EXPOSE so far
}

// maxPorts bounds the number of ports that EXPOSE adds: every port of three protocols.
const maxPorts = 3 << 16

// NewDraft returns a draft with the content of img. Edits of the draft do not change img.
func NewDraft(img Image) *Draft {
	c := &img.Config
	c.Env = slices.Clone(c.Env)
	c.OnBuild = slices.Clone(c.OnBuild)
	c.Labels = maps.Clone(c.Labels)
	c.Volumes = maps.Clone(c.Volumes)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)

	d := &Draft{Image: img, env: map[string]int{}}
	for i, kv := range c.Env {
		name, _, _ := strings.Cut(kv, "=")
		if _, twice := d.env[name]; !twice {
			d.env[name] = i
		}
	}
	return d
}

// Getenv returns the value of a variable of the environment of the image, and whether the variable is set.
func (d *Draft) Getenv(name string) (string, bool) {
	i, ok := d.env[name]
	if !ok {
		return "", false
	}
	_, value, _ := strings.Cut(d.Config.Env[i], "=")
	return value, true
}

// Setenv sets a variable of the environment. A variable that exists keeps its position.
func (d *Draft) Setenv(name, value string) {
	i, ok := d.env[name]
	if !ok {
		i = len(d.Config.Env)
		d.env[name] = i
		d.Config.Env = append(d.Config.Env, "")
	}
	d.Config.Env[i] = name + "=" + value
}

// Edit sets variables in the order of the line. A variable that exists keeps its position.
func (c Env) Edit(d *Draft) (string, error) {
	for _, v := range c.Vars {
		d.Setenv(v.Key, v.Value)
	}
	return pairsText("ENV", c.Vars), nil
}

func pairsText(name string, pairs []Pair) string {
	words := []string{name}
	for _, p := range pairs {
		words = append(words, p.Key+"="+p.Value)
	}
	return strings.Join(words, " ")
}

// Edit sets labels.
func (c Label) Edit(d *Draft) (string, error) {
	if d.Config.Labels == nil {
		d.Config.Labels = map[string]string{}
	}
	for _, l := range c.Labels {
		d.Config.Labels[l.Key] = l.Value
	}
	return pairsText("LABEL", c.Labels), nil
}

// Edit sets the user of later steps and of the container.
func (c User) Edit(d *Draft) (string, error) {
	d.Config.User = c.User
	return "USER " + c.User, nil
}

// Edit sets the working directory. A relative path is joined to the present directory. An absolute path is kept as written,
// also with a slash at the end.
func (c Workdir) Edit(d *Draft) (string, error) {
	d.Config.WorkingDir = joinDir(d.Config.WorkingDir, c.Path)
	return "WORKDIR " + d.Config.WorkingDir, nil
}

func joinDir(current, dir string) string {
	if path.IsAbs(dir) {
		return dir
	}
	return path.Join("/", current, dir)
}

// Edit adds volumes. An empty path is an error.
func (c Volume) Edit(d *Draft) (string, error) {
	if d.Config.Volumes == nil {
		d.Config.Volumes = map[string]struct{}{}
	}
	for _, p := range c.Paths {
		if p == "" {
			return "", errors.New("the path of VOLUME is empty")
		}
		d.Config.Volumes[p] = struct{}{}
	}
	return fmt.Sprintf("VOLUME %v", c.Paths), nil
}

// Edit adds ports. A range such as 8000-8010/tcp adds each port of the range.
func (c Expose) Edit(d *Draft) (string, error) {
	if d.Config.ExposedPorts == nil {
		d.Config.ExposedPorts = map[string]struct{}{}
	}
	var all []string
	for _, word := range c.Ports {
		list, err := parsePorts(word)
		if err != nil {
			return "", err
		}
		if d.ports += len(list); d.ports > maxPorts {
			return "", fmt.Errorf("EXPOSE names more than %d ports", maxPorts)
		}
		for _, p := range list {
			d.Config.ExposedPorts[p] = struct{}{}
		}
		all = append(all, list...)
	}

	return fmt.Sprintf("EXPOSE %v", all), nil
}

// Edit sets the signal that stops the container: a name, for example SIGTERM or term, or a number from 1 to 64.
func (c StopSignal) Edit(d *Draft) (string, error) {
	if !validSignal(c.Signal) {
		return "", fmt.Errorf("invalid signal %q", shown(c.Signal))
	}
	d.Config.StopSignal = c.Signal
	return "STOPSIGNAL " + c.Signal, nil
}

// Edit sets the shell of later shell forms.
func (c Shell) Edit(d *Draft) (string, error) {
	d.Config.Shell = slices.Clone(c.Args)
	return fmt.Sprintf("SHELL %v", c.Args), nil
}

// Edit sets the author.
func (c Maintainer) Edit(d *Draft) (string, error) {
	d.Author = c.Author
	return "MAINTAINER " + c.Author, nil
}

// Edit stores a trigger. A build that has this image as its base executes the trigger.
func (c Onbuild) Edit(d *Draft) (string, error) {
	d.Config.OnBuild = append(d.Config.OnBuild, c.Trigger)
	return "", nil
}

// Edit sets the command.
func (c Cmd) Edit(d *Draft) (string, error) {
	d.Config.Cmd = c.Argv(d.Image)
	d.Config.ArgsEscaped = true //nolint:staticcheck // deprecated, but docker writes it
	return fmt.Sprintf("CMD %q", d.Config.Cmd), nil
}

// Edit sets the entry point. Without KeepCmd, Edit removes the command, because it is the command of the base image.
func (c Entrypoint) Edit(d *Draft) (string, error) {
	d.Config.Entrypoint = c.Argv(d.Image)
	if !c.KeepCmd {
		d.Config.Cmd = nil
	}
	return fmt.Sprintf("ENTRYPOINT %q", d.Config.Entrypoint), nil
}

// Edit sets the health check and replaces an earlier health check.
func (c Healthcheck) Edit(d *Draft) (string, error) {
	check := c.Check
	check.Test = slices.Clone(check.Test)
	d.Config.Healthcheck = &check
	return fmt.Sprintf("HEALTHCHECK %+v", check), nil
}

// Argv returns the arguments of the process. For the shell form the shell of img comes first: ["/bin/sh", "-c", LINE].
func (c CmdLine) Argv(img Image) []string {
	if !c.Shell {
		return slices.Clone(c.Args)
	}
	return ShellArgv(img, strings.Join(c.Args, " "))
}

// ShellArgv returns the arguments of a process that runs script with the shell of img. The shell is /bin/sh -c unless SHELL
// has set another shell.
func ShellArgv(img Image, script string) []string {
	if len(img.Config.Shell) > 0 {
		return append(slices.Clone(img.Config.Shell), script)
	}
	return []string{"/bin/sh", "-c", script}
}
