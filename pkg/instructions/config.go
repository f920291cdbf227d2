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
// Edit returns img as the instruction leaves it, and the text of its history
// entry as BuildKit writes it; the text is empty where BuildKit writes no
// entry (ONBUILD). img is not changed: the result shares with it only what is
// the same. The words of the command have to be expanded.
type Editor interface {
	Command
	Edit(img Image) (Image, string, error)
}

// Edit sets variables in the order of the line; one that exists keeps its place.
func (c Env) Edit(img Image) (Image, string, error) {
	env := slices.Clone(img.Config.Env)
	for _, v := range c.Vars {
		env = setEnv(env, v.Key, v.Value)
	}
	img.Config.Env = env
	return img, pairsText("ENV", c.Vars), nil
}

func pairsText(name string, pairs []Pair) string {
	words := []string{name}
	for _, p := range pairs {
		words = append(words, p.Key+"="+p.Value)
	}
	return strings.Join(words, " ")
}

func setEnv(env []string, key, value string) []string {
	for i, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

// Edit sets labels.
func (c Label) Edit(img Image) (Image, string, error) {
	labels := maps.Clone(img.Config.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, l := range c.Labels {
		labels[l.Key] = l.Value
	}
	img.Config.Labels = labels
	return img, pairsText("LABEL", c.Labels), nil
}

// Edit sets the user of later steps and of the container.
func (c User) Edit(img Image) (Image, string, error) {
	img.Config.User = c.User
	return img, "USER " + c.User, nil
}

// Edit sets the working directory. A relative path is joined to the present
// one; an absolute path is kept as written, with its trailing slash.
func (c Workdir) Edit(img Image) (Image, string, error) {
	img.Config.WorkingDir = joinDir(img.Config.WorkingDir, c.Path)
	return img, "WORKDIR " + img.Config.WorkingDir, nil
}

func joinDir(current, dir string) string {
	if path.IsAbs(dir) {
		return dir
	}
	return path.Join("/", current, dir)
}

// Edit adds volumes. A later RUN keeps what it writes into one.
func (c Volume) Edit(img Image) (Image, string, error) {
	volumes := maps.Clone(img.Config.Volumes)
	if volumes == nil {
		volumes = map[string]struct{}{}
	}
	for _, p := range c.Paths {
		if p == "" {
			return img, "", errors.New("the path of VOLUME is empty")
		}
		volumes[p] = struct{}{}
	}
	img.Config.Volumes = volumes
	return img, fmt.Sprintf("VOLUME %v", c.Paths), nil
}

// Edit adds ports.
func (c Expose) Edit(img Image) (Image, string, error) {
	ports := maps.Clone(img.Config.ExposedPorts)
	if ports == nil {
		ports = map[string]struct{}{}
	}
	var all []string
	for _, word := range c.Ports {
		list, err := parsePorts(word)
		if err != nil {
			return img, "", err
		}
		for _, p := range list {
			ports[p] = struct{}{}
		}
		all = append(all, list...)
	}
	img.Config.ExposedPorts = ports
	return img, fmt.Sprintf("EXPOSE %v", all), nil
}

// Edit sets the signal that stops the container: a name or a number.
func (c StopSignal) Edit(img Image) (Image, string, error) {
	if !validSignal(c.Signal) {
		return img, "", fmt.Errorf("invalid signal %q", shown(c.Signal))
	}
	img.Config.StopSignal = c.Signal
	return img, "STOPSIGNAL " + c.Signal, nil
}

// Edit sets the shell of later shell forms.
func (c Shell) Edit(img Image) (Image, string, error) {
	img.Config.Shell = slices.Clone(c.Args)
	return img, fmt.Sprintf("SHELL %v", c.Args), nil
}

// Edit sets the author.
func (c Maintainer) Edit(img Image) (Image, string, error) {
	img.Author = c.Author
	return img, "MAINTAINER " + c.Author, nil
}

// Edit stores the trigger for images built on this one.
func (c Onbuild) Edit(img Image) (Image, string, error) {
	img.Config.OnBuild = append(slices.Clone(img.Config.OnBuild), c.Trigger)
	return img, "", nil
}

// Edit sets the command.
func (c Cmd) Edit(img Image) (Image, string, error) {
	img.Config.Cmd = c.Argv(img)
	img.Config.ArgsEscaped = true //nolint:staticcheck // deprecated, but docker writes it
	return img, fmt.Sprintf("CMD %q", img.Config.Cmd), nil
}

// Edit sets the entry point, and drops a command that is not of this stage.
func (c Entrypoint) Edit(img Image) (Image, string, error) {
	img.Config.Entrypoint = c.Argv(img)
	if !c.KeepCmd {
		img.Config.Cmd = nil
	}
	return img, fmt.Sprintf("ENTRYPOINT %q", img.Config.Entrypoint), nil
}

// Edit sets the health check; the last one counts.
func (c Healthcheck) Edit(img Image) (Image, string, error) {
	check := c.Check
	check.Test = slices.Clone(check.Test)
	img.Config.Healthcheck = &check
	return img, fmt.Sprintf("HEALTHCHECK %+v", check), nil
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
