package plan_test

import (
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// steps walks through the target stage on a base with triggers.
func steps(t *testing.T, text string, o plan.Options, triggers ...string) (all []*plan.Step, err error) {
	t.Helper()
	p, err := planned(t, text, o)
	if err != nil {
		return nil, err
	}

	var base instructions.Image
	base.Config.OnBuild = triggers
	sc, err := p.Target.Begin(base, nil)
	if err != nil {
		return nil, err
	}
	for {
		step, err := sc.Next()
		if err != nil || step == nil {
			return all, err
		}
		all = append(all, step)
	}
}

func TestNoRemote(t *testing.T) {
	const why = "is refused by --no-remote"
	for _, tc := range []struct{ text, trigger, want string }{
		{"FROM a\nADD http://user:word@127.0.0.1/x /", "", "Dockerfile:2: ADD of http://xxxxx@127.0.0.1/x " + why},
		{"FROM a\nARG U=https://h/x\nADD f $U /d/", "", "Dockerfile:3: ADD of https://h/x " + why},
		{"FROM a\nADD git@example.com:a/b.git /", "", "Dockerfile:2: ADD of git@example.com:a/b.git " + why},
		{"FROM a", "ADD http://169.254.169.254/ /", "ADD of http://169.254.169.254/ " + why},
		{"ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD http://h/x /\nFROM a", "", "Dockerfile:3: ADD of http://h/x " + why},
		{"FROM a\nADD f /\nCOPY f /", "", ""},
		{"FROM a AS other\nADD http://h/x /\nFROM a", "", ""},
	} {
		var triggers []string
		if tc.trigger != "" {
			triggers = []string{tc.trigger}
		}
		_, err := steps(t, tc.text, plan.Options{NoRemote: true}, triggers...)
		if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
		}
		if _, err := steps(t, tc.text, plan.Options{}, triggers...); err != nil {
			t.Errorf("%q without the option: %v", tc.text, err)
		}
	}
}

func TestTriggerWarning(t *testing.T) {
	for trigger, want := range map[string]string{
		"RUN --mount=type=secret,id=token x":                    "the base image some/base brings a step that gets the secret token and can send it anywhere: ONBUILD RUN --mount=type=secret,id=token x",
		"RUN --mount=type=ssh x":                                "gets the SSH agent default",
		"RUN --mount=type=ssh --mount=type=secret,id=k,env=K x": "gets the secret k and the SSH agent default",
		"RUN --mount=type=cache,target=/c x":                    "",
		"COPY a b":                                              "",
		"ENV a=b":                                               "",
	} {
		all, err := steps(t, "FROM some/base", plan.Options{}, trigger)
		if err != nil || len(all) != 1 {
			t.Fatalf("%s: %d steps, %v", trigger, len(all), err)
		}
		if got := all[0].Warning; (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", trigger, got, want)
		}
	}

	all, err := steps(t, "FROM some/base\nRUN --mount=type=secret,id=token x", plan.Options{})
	if err != nil || len(all) != 1 || all[0].Warning != "" {
		t.Errorf("a step of the file itself: %v, %v", all, err)
	}
}
