package instructions

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// config makes an image with a config.
func config(edit func(*dockerspec.DockerOCIImageConfig)) Image {
	var img Image
	edit(&img.Config)
	return img
}

func edit(t *testing.T, c Command, img Image) (Image, string, error) {
	t.Helper()
	e, ok := c.(Editor)
	if !ok {
		t.Fatalf("%T edits no config", c)
	}
	d := NewDraft(img)
	text, err := e.Edit(d)
	return d.Image, text, err
}

type cfg = dockerspec.DockerOCIImageConfig

func TestEdit(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		before     Image
		after      Image
		history    string
	}{
		{
			"ENV keeps places", "ENV B=2 C=3 A=4",
			config(func(c *cfg) { c.Env = []string{"A=1", "B=1"} }),
			config(func(c *cfg) { c.Env = []string{"A=4", "B=2", "C=3"} }), "ENV B=2 C=3 A=4",
		},
		{
			"LABEL", "LABEL a=2 b=",
			config(func(c *cfg) { c.Labels = map[string]string{"a": "1", "c": "3"} }),
			config(func(c *cfg) { c.Labels = map[string]string{"a": "2", "b": "", "c": "3"} }), "LABEL a=2 b=",
		},
		{"USER", "USER a:b", Image{}, config(func(c *cfg) { c.User = "a:b" }), "USER a:b"},
		{
			"WORKDIR joins", "WORKDIR b/../c/", config(func(c *cfg) { c.WorkingDir = "/a/" }),
			config(func(c *cfg) { c.WorkingDir = "/a/c" }), "WORKDIR /a/c",
		},
		{"WORKDIR keeps", "WORKDIR /a/../b/", Image{}, config(func(c *cfg) { c.WorkingDir = "/a/../b/" }), "WORKDIR /a/../b/"},
		{
			"EXPOSE", "EXPOSE 8080:80 53/UDP 1-2/sctp 127.0.0.1:5-6:7-8 [::1]::9",
			config(func(c *cfg) { c.ExposedPorts = map[string]struct{}{"1/tcp": {}} }),
			config(func(c *cfg) {
				c.ExposedPorts = map[string]struct{}{
					"1/tcp": {}, "80/tcp": {}, "53/udp": {}, "1/sctp": {}, "2/sctp": {}, "7/tcp": {}, "8/tcp": {}, "9/tcp": {},
				}
			}),
			"EXPOSE [1/sctp 2/sctp 7/tcp 8/tcp 53/udp 80/tcp 9/tcp]",
		},
		{
			"VOLUME", `VOLUME ["/v three", "/a"]`, config(func(c *cfg) { c.Volumes = map[string]struct{}{"/b": {}} }),
			config(func(c *cfg) { c.Volumes = map[string]struct{}{"/v three": {}, "/a": {}, "/b": {}} }), "VOLUME [/v three /a]",
		},
		{"STOPSIGNAL", "STOPSIGNAL 9", Image{}, config(func(c *cfg) { c.StopSignal = "9" }), "STOPSIGNAL 9"},
		{"SHELL", `SHELL ["a", "-c"]`, Image{}, config(func(c *cfg) { c.Shell = []string{"a", "-c"} }), "SHELL [a -c]"},
		{"MAINTAINER", "MAINTAINER A <b@c>", Image{}, func() Image { var i Image; i.Author = "A <b@c>"; return i }(), "MAINTAINER A <b@c>"},
		{
			"CMD by SHELL", "CMD a  b", config(func(c *cfg) { c.Shell = []string{"s", "-c"} }),
			config(func(c *cfg) { c.Shell, c.Cmd, c.ArgsEscaped = []string{"s", "-c"}, []string{"s", "-c", "a  b"}, true }), //nolint:staticcheck // as in the code
			`CMD ["s" "-c" "a  b"]`,
		},
		{
			"ENTRYPOINT drops CMD", "ENTRYPOINT a", config(func(c *cfg) { c.Cmd = []string{"x"} }),
			config(func(c *cfg) { c.Entrypoint = []string{"/bin/sh", "-c", "a"} }), `ENTRYPOINT ["/bin/sh" "-c" "a"]`,
		},
		{
			"ENTRYPOINT of nothing", "ENTRYPOINT []", config(func(c *cfg) { c.Entrypoint = []string{"x"} }),
			config(func(*cfg) {}), "ENTRYPOINT []",
		},
		{
			"HEALTHCHECK", "HEALTHCHECK --interval=5m --timeout=3s --start-period=1m30s --retries=4 --start-interval=2s CMD a || b",
			Image{},
			config(func(c *cfg) {
				c.Healthcheck = &dockerspec.HealthcheckConfig{
					Test: []string{"CMD-SHELL", "a || b"}, Interval: 5 * time.Minute, Timeout: 3 * time.Second,
					StartPeriod: 90 * time.Second, StartInterval: 2 * time.Second, Retries: 4,
				}
			}),
			"HEALTHCHECK {Test:[CMD-SHELL a || b] Interval:5m0s Timeout:3s StartPeriod:1m30s StartInterval:2s Retries:4}",
		},
		{
			"HEALTHCHECK exec", `HEALTHCHECK CMD ["a"]`,
			Image{},
			config(func(c *cfg) { c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "a"}} }),
			"HEALTHCHECK {Test:[CMD a] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
		},
		{
			"HEALTHCHECK NONE", `HEALTHCHECK NONE`,
			Image{},
			config(func(c *cfg) { c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}} }),
			"HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
		},
		{
			"ONBUILD", "ONBUILD RUN a", config(func(c *cfg) { c.OnBuild = []string{"RUN x"} }),
			config(func(c *cfg) { c.OnBuild = []string{"RUN x", "RUN a"} }), "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Expander{Escape: '\\', Lookup: testLookup}.Command(parseStage(t, tc.text)[0])
			if err != nil {
				t.Fatal(err)
			}
			got, history, err := edit(t, c, tc.before)
			if err != nil || history != tc.history {
				t.Errorf("got history %q, %v, want %q", history, err, tc.history)
			}
			if d := cmp.Diff(tc.after, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestEditIsPure: an edit leaves the image that it is given as it was.
func TestEditIsPure(t *testing.T) {
	start := func() Image {
		return config(func(c *cfg) {
			c.Env = append(make([]string, 0, 9), "A=1")
			c.OnBuild = append(make([]string, 0, 9), "RUN a")
			c.Labels = map[string]string{"a": "1"}
			c.ExposedPorts = map[string]struct{}{"1/tcp": {}}
			c.Volumes = map[string]struct{}{"/a": {}}
			c.Shell = append(make([]string, 0, 9), "sh")
		})
	}

	img := start()
	for _, text := range []string{"ENV A=2", "ENV B=2", "LABEL a=2", "EXPOSE 2", "VOLUME /b", "ONBUILD RUN b", "CMD a", "ENTRYPOINT b", "USER u"} {
		first, _, err := edit(t, parseStage(t, text)[0], img)
		if err != nil {
			t.Fatal(err)
		}
		other := strings.NewReplacer("2", "3", "/b", "/c", " b", " c", " a", " d", " u", " v").Replace(text)
		second, _, err := edit(t, parseStage(t, other)[0], img)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(start(), img); d != "" {
			t.Errorf("%s changes its operand: %s", text, d)
		}
		if cmp.Equal(first, second) {
			t.Errorf("%s: two edits of one image share memory", text)
		}
	}
}

func TestRefusedValues(t *testing.T) {
	for _, text := range []string{
		"EXPOSE 65536", "EXPOSE -1", "EXPOSE a", "EXPOSE 80/icmp", "EXPOSE 80/tcp/x", "EXPOSE 80/tcp:90", "EXPOSE x:80", "EXPOSE 1.2.3:1:2",
		"EXPOSE 1-2:3-5", "EXPOSE 80:", "EXPOSE 5-4", "STOPSIGNAL 0", "STOPSIGNAL 65", "STOPSIGNAL SIGFOO", "STOPSIGNAL INT TERM", "STOPSIGNAL RTMIN+99",
	} {
		if _, _, err := edit(t, parseStage(t, text)[0], Image{}); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}

	for _, text := range []string{"STOPSIGNAL SIGTERM", "STOPSIGNAL term", "STOPSIGNAL SIGRTMIN+3", "STOPSIGNAL 64", "EXPOSE 1-1", "EXPOSE 1-9:80"} {
		if _, _, err := edit(t, parseStage(t, text)[0], Image{}); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
