package cache

import "testing"

func TestKeysDiffer(t *testing.T) {
	base := Ingredients{
		Parent: ForBase("x"), Step: "RUN a", Args: []string{"A=1"}, Content: []string{"d"}, Platform: "linux/amd64/", Options: []string{"o"},
	}
	changed := map[string]func(*Ingredients){
		"parent":   func(in *Ingredients) { in.Parent = ForBase("y") },
		"scratch":  func(in *Ingredients) { in.Parent = ForBase("") },
		"step":     func(in *Ingredients) { in.Step = "RUN b" },
		"args":     func(in *Ingredients) { in.Args = []string{"A=2"} },
		"content":  func(in *Ingredients) { in.Content = []string{"e"} },
		"platform": func(in *Ingredients) { in.Platform = "linux/arm64/" },
		"options":  func(in *Ingredients) { in.Options = nil },
		"bytes":    func(in *Ingredients) { in.Args = []string{"A=\xff"} },
		"others":   func(in *Ingredients) { in.Args = []string{"A=\xfe"} }, // neither is UTF-8
		"frames":   func(in *Ingredients) { in.Args, in.Content = []string{"A=1", "d"}, nil },
	}

	seen := map[Key]string{base.Key(): "base"}
	for name, change := range changed {
		in := base
		change(&in)
		if other, ok := seen[in.Key()]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[in.Key()] = name
	}

	if again := base; again.Key() != base.Key() {
		t.Error("the same ingredients give another key")
	}
}
