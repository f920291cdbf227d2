package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/doctor/probe"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// exitUnhealthy is the exit code if a facility is missing.
const exitUnhealthy = 1

// findingsEnv names the variable with the findings of the launcher, for the builder.
const findingsEnv = "_RBUILD_DOCTOR"

func newDoctorCmd(a *app) *cobra.Command {
	var asJSON bool
	var access cli.AccessFlags
	cmd := &cobra.Command{
		Use:   "doctor [REGISTRY...]",
		Short: "Report the facilities that builds need and the host lacks, with remedies",
		Long: "Try the operations of a build. Report each operation that fails or is limited on this host, and the command or the\n" +
			"field of a pod that fixes it. Nothing of the host or the store is changed. Each REGISTRY, HOST[:PORT], is asked\n" +
			"whether it accepts the stored credentials; without REGISTRY nothing is sent over the network.\n\n" +
			"The exit code is 0 if RUN works, and each REGISTRY can be used; else 1.",
		Example: "  rbuild doctor\n  rbuild doctor registry.example:5000",
		RunE: func(cmd *cobra.Command, registries []string) (err error) {
			o := a.DoctorOptions()
			o.Registries = registries
			if o.Registry, err = engine.Access(a.RegistryOptions(), access.Access()); err != nil {
				return err
			}
			if o.Cgroups, err = a.cgroups(); err != nil {
				return err
			}
			return a.doctor(cmd, o, func(r doctor.Report) error { return printReport(cmd, r, asJSON) })
		},
	}

	access.Register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")

	return cmd
}

// cgroups returns how a build without flags makes cgroups.
func (a *app) cgroups() (cgroup.Options, error) {
	host, err := a.host()
	if err != nil {
		return cgroup.Options{}, err
	}
	o, err := cli.CgroupOptions(host)
	o.UID = a.OuterUID()
	return o, err
}

// doctor probes in both roles. The builder prints the findings of both; where there is no builder, the launcher prints.
func (a *app) doctor(cmd *cobra.Command, o probe.Options, show func(doctor.Report) error) error {
	if a.State != nil {
		return a.doctorInside(cmd.Context(), o, show)
	}

	findings := probe.Outside(cmd.Context(), o)
	ns := engine.BuildNamespace()
	// Builds accept a single ID, and do not report at once the steps that fail with a single ID.
	for _, ns.AllowSingle = range []bool{false, true} {
		err := a.enterWith(cmd, ns, findings)
		if err == nil {
			return nil
		}
		f := probe.Refused(err)
		findings = append(findings, f)
		if f.Status == doctor.Missing {
			break
		}
	}

	findings = append(findings, probe.WithoutRun(filepath.Join(o.Store, engine.LayoutName)))
	return show(doctor.NewReport(doctor.None, findings))
}

// enterWith starts the builder.
func (a *app) enterWith(cmd *cobra.Command, ns userns.Options, findings []doctor.Finding) error {
	text, err := json.Marshal(findings)
	if err != nil {
		return err
	}
	ns.Env = append(ns.Env, findingsEnv+"="+string(text))
	return a.Enter(cmd.Context(), ns)
}

func (a *app) doctorInside(ctx context.Context, o probe.Options, show func(doctor.Report) error) error {
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(os.Getenv(findingsEnv)), &findings); err != nil {
		return fmt.Errorf("reading the findings of the launcher: %w", err)
	}
	if err := os.Unsetenv(findingsEnv); err != nil {
		return err
	}
	return show(doctor.NewReport(a.State.Mode, append(findings, probe.Inside(ctx, a.State, o)...)))
}

// printReport prints a report. Its error decides the exit code.
func printReport(cmd *cobra.Command, r doctor.Report, asJSON bool) error {
	write := r.Write
	if asJSON {
		write = func(w io.Writer) error { return progress.WriteJSON(w, r) }
	}
	if err := write(cmd.OutOrStdout()); err != nil {
		return err
	}
	if !r.Healthy() {
		return &exitError{code: exitUnhealthy}
	}
	return nil
}
