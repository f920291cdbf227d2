package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestContainersConf sees to it that later files win key by key, and that what is no value is an error.
func TestContainersConf(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}

	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("CONTAINERS_CONF", "")
	t.Setenv("CONTAINERS_CONF_OVERRIDE", "")
	write("containers/containers.conf", "[containers]\npids_limit = 0\nshm_size = \"1m\"\ndefault_ulimits = [\"nofile=1:2\"]\ntz = \"local\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n")
	write("containers/containers.conf.d/10.conf", "[containers]\nshm_size = \"2m\"\ndefault_ulimits = [\"core=0\", {append=true}]\n")
	c, err := readConfig(os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	if c.Containers.PidsLimit == nil || *c.Containers.PidsLimit != 0 || c.Containers.ShmSize != "2m" || c.Engine.CgroupManager != "cgroupfs" {
		t.Errorf("read %+v", c)
	}
	if diff := cmp.Diff([]string{"nofile=1:2", "core=0"}, c.Containers.DefaultUlimits.Get()); diff != "" {
		t.Errorf("ulimits (-want +got):\n%s", diff)
	}
	t.Setenv("CONTAINERS_CONF_OVERRIDE", write("over.conf", "[containers]\npids_limit = 7\n"))
	if c, err = readConfig(os.Getuid()); err != nil || *c.Containers.PidsLimit != 7 || c.Containers.ShmSize != "2m" {
		t.Errorf("with an override: %+v, %v", c, err)
	}
	t.Setenv("CONTAINERS_CONF", write("alone.conf", "[engine]\n"))
	if c, err = readConfig(os.Getuid()); err != nil || *c.Containers.PidsLimit != 7 || c.Containers.ShmSize != "" {
		t.Errorf("one file alone: %+v, %v", c, err)
	}
	bad := write("bad.conf", "[containers]\npids_limit = \"many\"\n")
	t.Setenv("CONTAINERS_CONF", bad)
	if _, err = readConfig(os.Getuid()); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("a number that is none: %v", err)
	}
}
