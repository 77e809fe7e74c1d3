package release

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unpacked is the archive, unpacked, with the program in its top directory.
func unpacked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, nil, "tar", "-xzf", one(t, dist(t), "*.tar.gz"), "--strip-components=1")
	return dir
}

// In real shells the scripts complete commands, flags and the words that a flag takes.
func TestShellsComplete(t *testing.T) {
	t.Parallel()
	lookPath(t, "bash", "zsh", "fish")
	dir := unpacked(t)
	home := t.TempDir()
	const bash = `. /usr/share/bash-completion/bash_completion; . completions/ossmount.bash
COMP_LINE=$0 COMP_POINT=${#0}
IFS=' ' read -r -a COMP_WORDS <<<"$0"; [ "${0% }" = "$0" ] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9
__start_ossmount; printf '%s\n' "${COMPREPLY[@]}"`
	const fish = `source completions/ossmount.fish; complete -C $argv[1]`
	// zsh completes on a terminal only: it is asked for the words that it would offer.
	const zsh = `autoload -Uz compinit; compinit -u -D
_describe() { local -a all=("${(@P)@[-1]}"); print -l -- ${all}; }
source completions/ossmount.zsh
words=(${(z)1}); [[ $1 = *' ' ]] && words+=(''); CURRENT=${#words}
_ossmount`
	for _, c := range []struct {
		line string
		want []string
	}{
		{"ossmount umo", []string{"umount"}},
		{"ossmount mount --close ", []string{"journal", "disk", "remote"}},
		{"ossmount recover ", []string{"discard", "export", "list", "publish"}},
		{"ossmount status --js", []string{"--json"}},
	} {
		for shell, args := range map[string][]string{
			"bash": {"bash", "--norc", "-c", bash, c.line},
			"fish": {"fish", "--no-config", "-c", fish, c.line},
			"zsh":  {"zsh", "-f", "-c", zsh, "zsh", c.line},
		} {
			out := must(t, dir, []string{"HOME=" + home, "PATH=" + dir + ":/usr/local/bin:/usr/bin:/bin"}, args[0], args[1:]...)
			var got []string
			for line := range strings.Lines(out) {
				word, _, _ := strings.Cut(line, "\t") // what follows describes it
				word, _, _ = strings.Cut(strings.TrimSpace(word), ":")
				if word, _, _ = strings.Cut(word, " "); word != "" {
					got = append(got, word)
				}
			}
			want := slices.Clone(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s offers %q after %q, want %q", shell, got, c.line, want)
			}
		}
	}
}

// The manual is sound to who typesets it: no warning, and each page it names is there.
func TestManualIsSound(t *testing.T) {
	t.Parallel()
	lookPath(t, "groff")
	dir := unpacked(t)
	pages, err := filepath.Glob(filepath.Join(dir, "man/*.1"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("pages: %q %v", pages, err)
	}
	for _, page := range pages {
		r, err := run(t, dir, nil, "groff", "-man", "-ww", "-Tutf8", page)
		if err != nil || r.Code != 0 || r.Err != "" {
			t.Errorf("%s: %v %v", filepath.Base(page), err, r)
		}
		_, refs, _ := strings.Cut(read(t, page), ".SH SEE ALSO\n")
		for ref := range strings.Lines(refs) {
			name := strings.NewReplacer(`\fB`, "", `\fR(1)`, "", `\-`, "-", ",", "", "\n", "").Replace(ref)
			if name != "fusermount3" && !slices.Contains(pages, filepath.Join(dir, "man", name+".1")) {
				t.Errorf("%s sees also %s, which is not there", filepath.Base(page), name)
			}
		}
	}
}
