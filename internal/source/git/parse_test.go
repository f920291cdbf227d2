package git

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	yes, no := true, false
	sum := strings.Repeat("a", 40)
	for text, want := range map[string]Ref{
		"https://h/x.git":                               {URL: "https://h/x.git"},
		"HTTPS://h/x.git":                               {URL: "https://h/x.git"},
		"http://h:80/a/x.git#v1":                        {URL: "http://h:80/a/x.git", Name: "v1"},
		"https://h/x.git#:d/e":                          {URL: "https://h/x.git", Subdir: "d/e"},
		"https://h/x.git#a/b:/../d/.":                   {URL: "https://h/x.git", Name: "a/b", Subdir: "d"},
		"https://h/x.git#a%20b:c%23d":                   {},
		"https://h/x.git#v:c%23d":                       {URL: "https://h/x.git", Name: "v", Subdir: "c#d"},
		"https://u:p@h/x.git":                           {URL: "https://h/x.git"},
		"git://h/x":                                     {URL: "git://h/x"},
		"ssh://git@h:22/x#v":                            {URL: "ssh://git@h:22/x", Name: "v"},
		"git@h:x/y.git#v:d":                             {URL: "git@h:x/y.git", Name: "v", Subdir: "d"},
		"git@h:x?ref=v":                                 {URL: "git@h:x", Name: "v"},
		"github.com/a/b":                                {URL: "https://github.com/a/b", Short: true},
		"github.com/a/b.git#v:d":                        {URL: "https://github.com/a/b.git", Name: "v", Subdir: "d", Short: true},
		"https://h/x.git?ref=v&subdir=d":                {URL: "https://h/x.git", Name: "v", Subdir: "d"},
		"https://h/x.git?ref=v#v:d":                     {URL: "https://h/x.git", Name: "v", Subdir: "d"},
		"https://h/x.git?tag=v":                         {URL: "https://h/x.git", Name: "refs/tags/v"},
		"https://h/x.git?branch=refs/heads/v":           {URL: "https://h/x.git", Name: "refs/heads/v"},
		"https://h/x.git?checksum=" + sum:               {URL: "https://h/x.git", Checksum: sum},
		"https://h/x.git?commit=abcd":                   {URL: "https://h/x.git", Checksum: "abcd"},
		"https://h/x.git?keep-git-dir":                  {URL: "https://h/x.git", KeepGitDir: &yes},
		"https://h/x.git?keep-git-dir=false":            {URL: "https://h/x.git", KeepGitDir: &no},
		"https://h/x.git?submodules=0":                  {URL: "https://h/x.git"},
		"https://h/x.git?mtime=commit":                  {URL: "https://h/x.git", CommitTimes: true},
		"https://h/x.git?fetch-by-commit&commit=" + sum: {URL: "https://h/x.git", Checksum: sum},
	} {
		got, ok, err := Parse(text)
		if want.URL == "" {
			if !ok || err == nil {
				t.Errorf("%s: %v, %v, %v", text, got, ok, err)
			}
			continue
		}

		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Ref{})); diff != "" || !ok || err != nil {
			t.Errorf("%s: %v, %v (-want +got):\n%s", text, ok, err, diff)
		}
		if again, ok, err := Parse(got.String()); !got.Short && (!ok || err != nil || again.URL != got.URL) {
			t.Errorf("%s: shown as %s", text, got)
		}
	}
}

func TestParseNoGit(t *testing.T) {
	for _, text := range []string{
		"", ".", "./x.git", "../a@b:c", "/x.git", "dir", "a:b", "a@b", "https://h/x", "https://h/x.tar.gz", "http://h/x.git/y", "https://h.git",
		"https://h/x?a=.git", "file:///x.git", "ext::sh -c x", "ext://x/y.git", "ftp://h/x.git", "docker-image://x", "gitlab.com/a/b", "--upload-pack=x",
	} {
		if got, ok, err := Parse(text); ok || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"https://h/x.git?x=1":                  `unknown option "x"`,
		"https://h/x.git?ref=":                 "ref has no value",
		"https://h/x.git?ref=a&ref=b":          "given 2 times",
		"https://h/x.git?ref=a#b":              `ref is "b" and "a"`,
		"https://h/x.git?subdir=a#:b":          `subdir is "b" and "a"`,
		"https://h/x.git?tag=a&branch=b":       "a tag and a branch",
		"https://h/x.git?tag=a#a":              "give one",
		"https://h/x.git?submodules":           "submodules are never fetched",
		"https://h/x.git?keep-git-dir=maybe":   "neither true nor false",
		"https://h/x.git?mtime=now":            "neither checkout nor commit",
		"https://h/x.git?checksum=xyzz":        "not the beginning",
		"https://h/x.git?fetch-by-commit":      "full hash",
		"https://h/x.git#--upload-pack=x":      "no name of a branch",
		"https://h/x.git#a..b":                 "no name of a branch",
		"https://h/x.git#%zz":                  "fragment",
		"ssh://-oProxyCommand=x/y":             "host",
		"git@-oProxyCommand:x":                 "the user or the host begins with -",
		"https://u:hidden@h:x/x.git":           "port",
		"https://u:hidden@h/x.git?ref=a&ref=b": "given 2 times",
		"ssh://u:hidden@h/x":                   "password",
	} {
		_, ok, err := Parse(text)
		if !ok || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v, error %v, want one that says %s", text, ok, err, want)
		}
	}
}

// FuzzParse: what Parse accepts can be given to git, and does not show credentials.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"https://u:p@h/x.git?ref=v#v:d", "git@h:x?tag=v", "github.com/a/b#c", "ssh://git@h/x", "git://h/x?keep-git-dir", "--x", "ext::sh",
		"https://h/x.git?commit=abcd&fetch-by-commit=1",
	} {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) {
		ref, ok, err := Parse(text)
		if err != nil || !ok {
			return
		}

		for _, s := range []string{ref.URL, ref.Name, ref.Subdir, ref.Checksum} {
			if strings.HasPrefix(s, "-") && s != ref.Subdir || strings.ContainsAny(s, "\n\x00") {
				t.Errorf("%q: %#v", text, ref)
			}
		}
		if strings.HasPrefix(ref.Subdir, "/") || strings.HasPrefix(ref.Subdir+"/", "../") {
			t.Errorf("%q: subdirectory %q", text, ref.Subdir)
		}
	})
}
