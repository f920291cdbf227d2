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
