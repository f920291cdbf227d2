package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// exitUnhealthy is the exit code of a doctor who has found something missing.
const exitUnhealthy = 1

// findingsEnv names the variable in which the launcher gives the builder what it has found.
const findingsEnv = "_RBUILD_DOCTOR"

func newDoctorCmd(a *app) *cobra.Command {
	var asJSON bool
	var access accessFlags
	cmd := &cobra.Command{
		Use:   "doctor [REGISTRY...]",
		Short: "Tell what the host lacks for builds, and how to mend it",
		Long: "Try what a build does, and tell what does not work here, what works in a lesser way, and the command or the field of a\n" +
			"pod that mends it. Nothing of the host or the store is changed. Each REGISTRY, HOST[:PORT], is asked whether it is\n" +
			"there and takes the credentials that are kept for it; without one nothing goes over the network.\n\n" +
			"The exit code is 0 if RUN works, and each REGISTRY can be used; else 1.",
		RunE: func(cmd *cobra.Command, registries []string) (err error) {
			o := a.doctorOptions()
			o.Registries = registries
			if o.Registry, err = access.apply(a.sys()); err != nil {
				return err
			}
			if o.Cgroups, err = a.cgroupOptions(); err != nil {
				return err
			}
			return a.doctor(cmd, o, func(r doctor.Report) error { return printReport(cmd, r, asJSON) })
		},
	}

	access.register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")

	return cmd
}

// doctor probes in both roles. The builder prints what was found, and the launcher where there is no builder.
func (a *app) doctor(cmd *cobra.Command, o doctor.Options, show func(doctor.Report) error) error {
	if a.state != nil {
		return a.doctorInside(cmd.Context(), o, show)
	}

	findings := doctor.Outside(cmd.Context(), o)
	ns := buildNamespace()
	for _, ns.AllowSingle = range []bool{false, true} { // builds take a single id, and do not say at once what that is for
		err := a.enterWith(cmd, ns, findings)
		if err == nil {
			return nil
		}
		f := doctor.Refused(err)
		findings = append(findings, f)
		if f.Status == doctor.Missing {
			break
		}
	}

	findings = append(findings, doctor.WithoutRun(filepath.Join(o.Store, layoutName)))
	return show(doctor.NewReport(doctor.None, findings))
}

// enterWith starts the builder.
func (a *app) enterWith(cmd *cobra.Command, ns userns.Options, findings []doctor.Finding) error {
	text, err := json.Marshal(findings)
	if err != nil {
		return err
	}
	ns.Env = append(ns.Env, findingsEnv+"="+string(text))
	return a.enter(cmd.Context(), ns)
}

func (a *app) doctorInside(ctx context.Context, o doctor.Options, show func(doctor.Report) error) error {
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(os.Getenv(findingsEnv)), &findings); err != nil {
		return fmt.Errorf("reading what the launcher has found: %w", err)
	}
	if err := os.Unsetenv(findingsEnv); err != nil {
		return err
	}
	return show(doctor.NewReport(a.state.Mode, append(findings, doctor.Inside(ctx, a.state, o)...)))
}

// printReport prints a report, and makes the exit code of it.
func printReport(cmd *cobra.Command, r doctor.Report, asJSON bool) error {
	var err error
	if asJSON {
		err = writeJSON(cmd.OutOrStdout(), r)
	} else {
		err = r.Write(cmd.OutOrStdout())
	}
	if err == nil && !r.Healthy() {
		return &exitError{code: exitUnhealthy}
	}
	return err
}

// doctorOptions is where builds write to and look for programs.
func (a *app) doctorOptions() doctor.Options {
	o := doctor.Options{Temp: os.TempDir(), Path: os.Getenv("PATH"), Trusted: a.state != nil && !a.state.Rootless()}
	o.Store, o.RunRoot, o.StoreErr = containers.Locate(a.storeOptions())
	return o
}

// explain adds to an error what the host lacks, if that is why.
func (a *app) explain(err error) error {
	var quiet *exitError // says nothing
	if err == nil || errors.As(err, &quiet) && quiet.err == nil {
		return err
	}
	if to := (*os.PathError)(nil); errors.As(err, &to) && slices.Contains([]string{stdoutFile().Name(), stdoutName}, to.Path) {
		return err // it is not the store that is full
	}
	return doctor.Explain(err, a.doctorOptions())
}

// explainStep does so for a step. What a command says of a full file system only its output tells.
func (a *app) explainStep(err error) error {
	if _, ok := errors.AsType[*runner.ExitError](err); ok {
		return doctor.ExplainFull(err, a.doctorOptions())
	}
	return a.explain(err)
}
