// Package plan turns a parsed Dockerfile into the stages that a target needs, and each stage into
// steps with all variables expanded.
//
// Use:
//
//	p, err := plan.New(file, plan.Options{Target: "final", Platform: host})
//	for _, stage := range p.Stages { // dependencies first
//		scope, err := stage.Begin(baseConfig, argsOfStageBelow)
//		for {
//			step, err := scope.Next()
//			if step == nil {
//				break
//			}
//			switch op := step.Op.(type) { ... }
//		}
//	}
//
// A Plan and its Stages do not change after New. A Scope holds the state of one walk through a
// stage. A stage that is built on another stage (From.Stage) begins with the config and the build
// arguments that the Scope of that stage has at its end. All other stages are independent and can
// run at the same time. Stage.Needs and Copy.From name the results that a stage reads.
//
// The package is pure: no files, no network, no clock.
//
// Variables. A variable is looked up in the environment first (the environment of the base, and
// ENV), and then in the build arguments that ARG has declared so far. So ENV wins, also over
// --build-arg. FROM sees the global ARGs, which precede the first FROM; a stage sees a global ARG
// if the stage declares the name again.
//
// Source: https://docs.docker.com/reference/dockerfile/ and, for the texts of the history,
// BuildKit's frontend 1.26.
package plan
