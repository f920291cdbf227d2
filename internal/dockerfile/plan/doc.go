// Package plan turns a parsed Dockerfile into the stages that a target needs
// and, stage by stage, into steps with everything expanded.
//
// Use:
//
//	p, err := plan.New(file, plan.Options{Target: "final", Platform: host})
//	for _, stage := range p.Stages { // dependencies first
//		scope, err := stage.Begin(baseConfig)
//		for {
//			step, err := scope.Next()
//			if step == nil { break }
//			switch op := step.Op.(type) { ... }
//		}
//	}
//
// A stage may begin when the stage that it is built on (From.Stage) has been
// stepped through to its end, because it inherits that stage's build
// arguments. Otherwise stages are independent of each other and may be run at
// the same time; Needs and the From of Copy say which results they read.
//
// The package is pure: no files, no network, no clock.
//
// Scopes. A variable is looked up in the environment first, which is the
// base's and ENV, and then among the build arguments that ARG has declared so
// far: ENV wins, also over --build-arg. A global ARG (before the first FROM)
// is seen by FROM, and by a stage that declares it again.
//
// Source: https://docs.docker.com/reference/dockerfile/ and, for the texts of
// the history, BuildKit's frontend 1.26.
package plan
