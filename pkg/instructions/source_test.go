package instructions

import "testing"

func TestKindOfSource(t *testing.T) {
	for src, want := range map[string]string{
		"f": "", "./f": "", "a/b.git": "", "github.com/a/b": "", "github.com/a/b.git": "", "../a@b:c": "", "a@b": "", "a:b": "", "ftp://a/b.git": "",
		"http://a/b": "url", "https://a/b.tar.gz?x=.git": "url", "https://a.git": "url", "https://a/b.git/c": "url",
		"https://a/b.git": "git", "http://a/b.git#v1:sub": "git", "https://a/b.git?ref=v1": "git", "HTTPS://a/b.git": "git",
		"git://a/b": "git", "ssh://git@a/b": "git", "git@github.com:a/b": "git",
	} {
		got := ""
		if IsURL(src) {
			got += "url"
		}
		if IsGit(src) {
			got += "git"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", src, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"ADD f /":               "ADD f /",
		"ADD https://h/x /":     "ADD https://h/x /",
		"ADD https://u:p@h/x /": "ADD https://xxxxx@h/x /",
		"ADD --x http://t@h:80 https://u:p@h?a@b /": "ADD --x http://xxxxx@h:80 https://xxxxx@h?a@b /",
		`ADD ["HTTP://u:p@@h", "/"]`:                `ADD ["HTTP://xxxxx@h", "/"]`,
		"ADD git@h:x ssh://git@h/x /":               "ADD git@h:x ssh://git@h/x /",
		"ADD https://h/a@b /":                       "ADD https://h/a@b /",
		"https://u:p@h":                             "https://xxxxx@h",
		"a://b://https://u@h":                       "a://b://https://xxxxx@h",
		"https://":                                  "https://",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
