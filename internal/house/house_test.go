package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ossmount/ossmount/"

// staircase says which rooms a room may import: those below it, and no other.
// Tests of a room may import what they need to try it, but nothing above it.
var staircase = map[string]struct{ code, tests []string }{
	"internal/object":   {},
	"internal/crc64":    {},
	"internal/md5lanes": {},
	"internal/extent":   {},
	"internal/codec":    {code: []string{"internal/object", "internal/extent"}},
	// What proves, in tests, that a record is coded as encoding/json does it.
	"internal/codec/alike": {code: []string{"internal/codec", "internal/extent"}},
	"internal/crash":       {},
	"internal/private":     {},
	"internal/meter":       {},
	"internal/metrics":     {code: []string{"internal/meter"}},
	"internal/web":         {},
	"internal/screen":      {},
	"internal/headers":     {code: []string{"internal/object"}},
	"internal/ossemu":      {code: []string{"internal/crc64", "internal/md5lanes"}},
	"internal/house":       {},
	"internal/remote":      {code: []string{"internal/object", "internal/crc64"}, tests: []string{"internal/ossemu"}},
	"cache":                {code: []string{"internal/object", "internal/extent", "internal/codec", "internal/crash", "internal/private"}, tests: []string{"internal/codec/alike"}},
	"journal":              {code: []string{"internal/object", "internal/extent", "internal/codec", "internal/crash", "internal/private", "internal/meter"}, tests: []string{"internal/codec/alike"}},

	"writeback": {
		code:  []string{"cache", "journal", "internal/object", "internal/extent", "internal/crc64", "internal/crash"},
		tests: []string{"internal/ossemu", "internal/remote"},
	},
	"fs": {
		code:  []string{"writeback", "cache", "journal", "internal/object", "internal/extent", "internal/crc64", "internal/crash", "internal/meter"},
		tests: []string{"internal/ossemu", "internal/remote"},
	},
	// Where access keys come from; they are those of internal/remote.
	"internal/credentials": {
		code:  []string{"internal/remote"},
		tests: []string{"integration/harness/keys"},
	},
	"cmd/ossmount": {
		code: []string{"fs", "writeback", "cache", "journal", "internal/object", "internal/extent", "internal/remote", "internal/ossemu", "internal/crc64", "internal/private", "internal/metrics", "internal/web", "internal/headers", "internal/credentials", "internal/screen"},
	},
	// What the SDK's own tests say of the server.
	"internal/ossemu/conformance": {code: []string{"internal/ossemu"}},
	// What is deployed, judged by those who read it.
	"deploy": {tests: []string{"integration/harness/manifest"}},
	// The built binary from outside: no room at all.
	"integration":         {code: []string{"integration/harness", "integration/harness/disk", "integration/harness/manifest", "integration/harness/keys"}},
	"integration/demo":    {code: []string{"integration/harness"}},
	"integration/bench":   {code: []string{"integration/harness"}},
	"integration/release": {tests: []string{"integration/harness"}},
	"integration/harness": {},
	// What is deployed on Kubernetes, in the types of its API.
	"integration/harness/manifest": {},
	// Those who give out temporary access keys: STS and the metadata service of ECS.
	"integration/harness/keys": {},
	// A disk for the cache directory, whose power can be cut.
	"integration/harness/disk": {code: []string{"integration/harness"}},
}

// libraries says which rooms may use a library that is not of the Go project.
// Tests may use others beside these, but not the first three.
var libraries = []struct {
	path        string
	code, tests []string
}{
	{"github.com/dgraph-io/badger", []string{"journal"}, nil},
	{"github.com/dgraph-io/ristretto", []string{"journal"}, nil}, // Badger's tables are opened by its mapped files
	// The disk of the tests is a file in a file system that has nothing to do with
	// the product's; the benchmark measures go-fuse's own beside it.
	{"github.com/hanwen/go-fuse", []string{"fs", "cmd/ossmount", "integration/harness/disk", "integration/bench"}, []string{"integration"}},
	// The harness judges what the product has uploaded by a client that the
	// product did not write, and the benchmark measures that client beside it.
	{"github.com/aliyun/aliyun-oss-go-sdk", []string{"internal/remote", "integration/harness", "integration/bench"}, []string{"internal/ossemu", "integration"}},
	// The provider's own client judges the services of the tests (docs/decisions/0019).
	{"github.com/aliyun/credentials-go", nil, []string{"integration/harness/keys"}},
	{"github.com/spf13/cobra", []string{"cmd/ossmount"}, nil},
	{"github.com/goccy/go-yaml", []string{"cmd/ossmount"}, nil}, // the parser with the right lines in its errors
	{"github.com/agnivade/levenshtein", []string{"cmd/ossmount"}, nil},
	{"github.com/KimMachineGun/automemlimit", []string{"cmd/ossmount"}, nil},
	{"github.com/coreos/go-systemd", []string{"cmd/ossmount"}, nil},
	{"k8s.io", []string{"integration/harness/manifest"}, []string{"deploy", "integration"}},
	{"sigs.k8s.io", []string{"integration/harness/manifest"}, nil},
	{"github.com/bmatcuk/doublestar", []string{"internal/headers"}, nil},
	{"github.com/prometheus/client_golang", []string{"internal/metrics"}, nil},
	// The display of a status that changes, and what a terminal can show.
	{"charm.land/bubbletea", []string{"internal/screen"}, nil},
	{"github.com/charmbracelet", []string{"internal/screen"}, nil},
	{"github.com/spf13/pflag", []string{"cmd/ossmount"}, nil},
	{"github.com/cenkalti/backoff", []string{"writeback", "fs"}, nil},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	Dir          string
	ImportPath   string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room is the package's place in the house: its path beneath the module.
func (p *pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// root is the top of the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func packages(t *testing.T) []*pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []*pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 8 {
		t.Fatalf("go list shows %d packages only", len(all))
	}
	return all
}

func TestNoRoomImportsUpward(t *testing.T) {
	for _, p := range packages(t) {
		steps, ok := staircase[p.room()]
		if !ok {
			t.Errorf("package %s has no step in the staircase.\nRule: every room has a place (docs/architecture.md). Give it one in the table of internal/house/house_test.go, and say in the docs what it is.", p.room())
			continue
		}
		may := append(slices.Clone(steps.code), p.room())
		for _, path := range p.Imports {
			below(t, p.room(), path, may, "")
		}
		may = append(may, steps.tests...)
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			below(t, p.room(), path, may, "the tests of ")
		}
	}
}

func below(t *testing.T, room, path string, may []string, who string) {
	t.Helper()
	to, ours := strings.CutPrefix(path, module)
	if ours && !slices.Contains(may, to) {
		t.Errorf("%s%s imports %s.\nRule: imports go down the staircase only: %s may import %v. Why: a room that knows what stands above it cannot be read, tested or replaced by itself. Declare the small interface that is needed, and let cmd/ossmount hand it in.", who, room, to, room, may)
	}
}

func TestEachLibraryHasItsRoom(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range p.Imports {
			if foreign(path) {
				atHome(t, p.room(), path, false)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if foreign(path) {
				atHome(t, p.room(), path, true)
			}
		}
	}
}

// foreign reports an import path that is neither ours nor of the Go project.
func foreign(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".") && first != "golang.org" && !strings.HasPrefix(path+"/", module)
}

func atHome(t *testing.T, room, path string, test bool) {
	t.Helper()
	for _, l := range libraries {
		if path != l.path && !strings.HasPrefix(path, l.path+"/") {
			continue
		}
		may := l.code
		if test {
			may = slices.Concat(l.code, l.tests)
		}
		if !slices.Contains(may, room) {
			t.Errorf("%s imports %s.\nRule: that library is for %v only. Why: replacing it is then a change of one room, and its types leak nowhere.", room, path, may)
		}
		return
	}
	if !test {
		t.Errorf("%s imports %s, which has no room.\nRule: a library is at home in one room. Add it to the table in internal/house/house_test.go with the rooms that may use it, and say in docs/decisions why it is worth its weight.", room, path)
	}
}

func TestGoFuseFSIsAlwaysGofs(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			f := parse(t, filepath.Join(p.Dir, name), parser.ImportsOnly)
			for _, im := range f.Imports {
				if im.Path.Value == `"github.com/hanwen/go-fuse/v2/fs"` && (im.Name == nil || im.Name.Name != "gofs") {
					t.Errorf("%s/%s imports go-fuse's fs under another name than gofs.\nRule: fs is our room, gofs is theirs. Why: one word, one meaning.", p.room(), name)
				}
			}
		}
	}
}

func parse(t *testing.T, path string, mode parser.Mode) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, mode)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestOnePackageComment(t *testing.T) {
	for _, p := range packages(t) {
		var in []string
		for _, name := range p.GoFiles {
			if parse(t, filepath.Join(p.Dir, name), parser.PackageClauseOnly|parser.ParseComments).Doc != nil {
				in = append(in, name)
			}
		}
		if len(p.GoFiles) > 0 && len(in) != 1 {
			t.Errorf("package %s has %d package comments %v.\nRule: exactly one, in doc.go (main.go for a command). Why: it is where a reader begins: the promise, the goroutines, what a crash leaves.", p.room(), len(in), in)
		}
	}
}

// maxLines is what is read in one sitting.
const maxLines = 600

func TestFilesAreOneSitting(t *testing.T) {
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(b), "\n"); n > maxLines {
				t.Errorf("%s/%s has %d lines.\nRule: %d at most outside tests. Why: a file is one topic and one sitting; the listing of a room is its table of contents. Divide it by topic.", p.room(), name, n, maxLines)
			}
		}
	}
}

// topLevel is what may lie at the top, beside names that begin with a dot.
var topLevel = []string{
	"go.mod", "go.sum", "cmd", "fs", "writeback", "journal", "cache", "integration",
	"Makefile", "README.md", "internal", "docs", "deploy", "LICENSE",
}

func TestTopLevel(t *testing.T) {
	for _, path := range tracked(t) {
		first, _, _ := strings.Cut(path, "/")
		if !strings.HasPrefix(first, ".") && !slices.Contains(topLevel, first) {
			t.Errorf("%s lies at the top level.\nRule: there are only %v and dot files. Why: the top level is the plan of the house, and it was agreed.", path, topLevel)
		}
	}
}

// tracked returns the files of the checkout: those that git tracks, or, where
// there is no git, all but what .gitignore names.
func tracked(t *testing.T) []string {
	t.Helper()
	dir := root(t)
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = dir
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		return slices.DeleteFunc(strings.Split(strings.Trim(string(out), "\x00"), "\x00"), func(path string) bool {
			_, err := os.Lstat(filepath.Join(dir, path))
			return err != nil // removed, and not committed yet
		})
	}
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist"}, rel):
			return filepath.SkipDir
		case !d.IsDir():
			all = append(all, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNothingOfOneMachineOrOneDay(t *testing.T) {
	for _, c := range []struct {
		what *regexp.Regexp
		rule string
	}{
		// Put together from pieces, so that this file does not match itself.
		{regexp.MustCompile(`(^|[^\w.~-])/(` + `work|root|home/\w+` + `)(/|\b)`),
			"no absolute path of somebody's machine. Why: it is right nowhere else, and tells what nobody needs to know."},
		{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`),
			"no notes to oneself. Why: what is missing is an issue or a line in docs/, where others find it; what is wrong is mended."},
	} {
		for _, path := range tracked(t) {
			for i, line := range lines(t, path) {
				if m := c.what.FindString(line); m != "" {
					t.Errorf("%s:%d: %q.\nRule: %s", path, i+1, strings.TrimSpace(m), c.rule)
				}
			}
		}
	}
}

// lines returns the lines of a text file, none of a binary one.
func lines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), path))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		t.Fatal(err)
	}
	if strings.ContainsRune(string(b[:min(len(b), 8000)]), 0) {
		return nil
	}
	return strings.Split(string(b), "\n")
}
