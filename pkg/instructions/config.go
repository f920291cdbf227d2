package instructions

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Editor is a command that edits the image's config.
//
// Edit changes the draft and returns the text of its history entry as BuildKit writes it; the text is empty where
// BuildKit writes no entry (ONBUILD). The words of the command have to be expanded. After an error the draft is as it
// was, or has a part of the change.
type Editor interface {
	Command
	Edit(d *Draft) (string, error)
}

// Draft is an image that is being edited. Its slices and maps are its own, and changed in place: an edit that copied
// them would make the time of a long Dockerfile grow with the square of its length.
type Draft struct {
	Image

	env   map[string]int // index in Config.Env by name
	ports int            // that EXPOSE has named
}

// maxPorts bounds what the ranges of EXPOSE add up to: every port of every protocol.
const maxPorts = 3 << 16

// NewDraft makes a draft of img, which stays as it is.
func NewDraft(img Image) *Draft {
	c := &img.Config
	c.Env, c.OnBuild = slices.Clone(c.Env), slices.Clone(c.OnBuild)
	c.Labels, c.Volumes, c.ExposedPorts = maps.Clone(c.Labels), maps.Clone(c.Volumes), maps.Clone(c.ExposedPorts)
	d := &Draft{Image: img, env: map[string]int{}}
	for i, kv := range c.Env {
		name, _, _ := strings.Cut(kv, "=")
		if _, twice := d.env[name]; !twice {
			d.env[name] = i
		}
	}
	return d
}

// Getenv is the value of a variable of the image's environment, and whether it is set.
func (d *Draft) Getenv(name string) (string, bool) {
	i, ok := d.env[name]
	if !ok {
		return "", false
	}
	_, value, _ := strings.Cut(d.Config.Env[i], "=")
	return value, true
}

// Setenv sets a variable. One that exists keeps its place.
func (d *Draft) Setenv(name, value string) {
	i, ok := d.env[name]
	if !ok {
		i = len(d.Config.Env)
		d.env[name] = i
		d.Config.Env = append(d.Config.Env, "")
	}
	d.Config.Env[i] = name + "=" + value
}

// Edit sets variables in the order of the line; one that exists keeps its place.
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

// Edit sets the working directory. A relative path is joined to the present
// one; an absolute path is kept as written, with its trailing slash.
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

// Edit adds volumes. A later RUN keeps what it writes into one.
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

// Edit adds ports.
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

// Edit sets the signal that stops the container: a name or a number.
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

// Edit stores the trigger for images built on this one.
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

// Edit sets the entry point, and drops a command that is not of this stage.
func (c Entrypoint) Edit(d *Draft) (string, error) {
	d.Config.Entrypoint = c.Argv(d.Image)
	if !c.KeepCmd {
		d.Config.Cmd = nil
	}
	return fmt.Sprintf("ENTRYPOINT %q", d.Config.Entrypoint), nil
}

// Edit sets the health check; the last one counts.
func (c Healthcheck) Edit(d *Draft) (string, error) {
	check := c.Check
	check.Test = slices.Clone(check.Test)
	d.Config.Healthcheck = &check
	return fmt.Sprintf("HEALTHCHECK %+v", check), nil
}

// Argv is the command line with the shell of img before a shell form.
func (c CmdLine) Argv(img Image) []string {
	if !c.Shell {
		return slices.Clone(c.Args)
	}
	return ShellArgv(img, strings.Join(c.Args, " "))
}

// ShellArgv is the command line that runs script with the shell of img, which
// is /bin/sh -c if SHELL has not set another.
func ShellArgv(img Image, script string) []string {
	if len(img.Config.Shell) > 0 {
		return append(slices.Clone(img.Config.Shell), script)
	}
	return []string{"/bin/sh", "-c", script}
}
