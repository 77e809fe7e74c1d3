package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossmount/ossmount/integration/harness"
)

// program is a piece of work by real programs. It is done in a plain directory
// and in a mount; both must come out equal, at once, after the drain, and in a
// mount that has nothing local.
type program struct {
	name  string
	needs []string
	// do works in $1, from the material in $2, with $3 for what shall not be
	// compared.
	do string
	// then looks at $1 again: now, and after the remount. It fails, or prints
	// what must be equal in both.
	then string
	// times says that the modification times are part of the result.
	times bool
}

var programs = []program{
	{name: "rsync", needs: []string{"rsync"}, times: true, do: `
		rsync -a "$2/tree/" "$1/tree/"
		out=$(rsync -a -i "$2/tree/" "$1/tree/"); [ -z "$out" ] || { echo "again: $out"; exit 1; }
		out=$(rsync -a -n -c -i "$2/tree/" "$1/tree/"); [ -z "$out" ] || { echo "by checksum: $out"; exit 1; }
		rsync -a "$2/tree/" "$1/pruned/"
		rsync -a --delete "$2/tree2/" "$1/pruned/"
		rsync -a "$2/tree/" "$1/inplace/"
		rsync -a --inplace --no-whole-file "$2/tree2/" "$1/inplace/"
		rsync -a "$2/tree/" "$1/delayed/"
		rsync -a --delay-updates --delete-after "$2/tree2/" "$1/delayed/"
		rsync -a --append-verify "$2/grown" "$1/"
		rsync -a --sparse --backup --suffix=.old "$2/tree2/" "$1/inplace/"`,
		then: `
		out=$(rsync -a -n -i --delete "$2/tree/" "$1/tree/"; rsync -a -n -c -i --delete "$2/tree2/" "$1/pruned/"; rsync -a -n -c -i --delete "$2/tree2/" "$1/delayed/"); [ -z "$out" ] || { echo "would do: $out"; exit 1; }`},
	{name: "rsync that is interrupted", needs: []string{"rsync"}, times: true, do: `
		rsync -a --partial --bwlimit=8m "$2/big" "$1/" & pid=$!
		while [ -z "$(find "$1" -name '.big.*' -size +200k)" ] && kill -0 $pid 2>/dev/null; do :; done
		kill -INT $pid; wait $pid && { echo "it was not interrupted"; exit 1; }
		while [ -n "$(find "$1" -name '.big.*')" ]; do :; done # the receiver ends after the one that was waited for
		[ -s "$1/big" ] || { echo "nothing partial is left"; ls -la "$1"; exit 1; }
		rsync -a --partial "$2/big" "$1/"
		rsync -a --partial-dir=.rsync-partial "$2/big" "$1/in a directory/"; touch -d 2020-01-01 "$1/in a directory"
		cmp "$2/big" "$1/big"`},
	{name: "cp and diff", times: true, do: `
		cp -a "$2/tree" "$1/copy"
		diff -r --no-dereference "$2/tree" "$1/copy"
		cp -a "$1/copy" "$1/copy of the copy"
		diff -r --no-dereference "$1/copy" "$1/copy of the copy"
		cp --reflink=auto --sparse=always -p "$2/sparse" "$1/sparse"
		cp -u -a "$2/tree/." "$1/copy/"
		cp -al "$2/tree" "$1/linked" 2>/dev/null || rm -rf "$1/linked"
		rm -rf "$1/linked"`,
		then: `diff -r --no-dereference "$2/tree" "$1/copy of the copy"; cmp "$2/sparse" "$1/sparse"`},
	{name: "tar", times: true, do: `
		mkdir "$1/x"; tar -C "$1/x" -xf "$2/tree.tar"
		tar -C "$1/x" -df "$2/tree.tar"
		tar -C "$1/x" -xf "$2/tree.tar" --overwrite
		mkdir "$1/y"; tar -C "$1/y" -xf "$2/tree.tar" --unlink-first --recursive-unlink; touch -d 2020-01-01 "$1/y"
		tar -C "$1" -cf "$3/again.tar" x; tar -C "$1" -df "$3/again.tar"`,
		then: `tar -C "$1/x" -df "$2/tree.tar"`},
	{name: "zip and unzip", needs: []string{"unzip", "zip"}, times: true, do: `
		mkdir "$1/u"; unzip -q "$2/tree.zip" -d "$1/u"
		unzip -q -o "$2/tree.zip" -d "$1/u"; touch -d 2020-01-01 "$1/u"
		cd "$1"; zip -q -r -X -y "$3/again.zip" u; unzip -q -t "$3/again.zip"`,
		then: `unzip -q -t "$2/tree.zip"; cd "$1/u"; unzip -Z1 "$2/tree.zip" | wc -l`},
	{name: "git", needs: []string{"git"}, do: `
		export HOME="$3" GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
		export GIT_AUTHOR_DATE="2020-01-01T00:00:00Z" GIT_COMMITTER_DATE="2020-01-01T00:00:00Z"
		git clone -q "file://$2/repo" "$1/clone"
		git clone -q "$1/clone" "$1/second"
		cd "$1/clone"
		git checkout -q -b work
		for i in 1 2 3 4 5; do
			echo "line $i" >> "a file"; mkdir -p "d$i/e"; cp "$2/repo/f1" "d$i/e/f"; git add -A; git commit -q -m "commit $i"
		done
		git mv d1 moved; git rm -q -r d2; chmod +x moved/e/f; git commit -q -am "moved"
		git checkout -q -; git checkout -q work; git stash list; git tag -a -m t v1
		git rebase -q HEAD~2 >/dev/null; git merge -q -m m --no-ff work
		git repack -q -a -d; git gc -q --prune=now; git fsck --strict --no-progress
		cd "$1/second"; git fetch -q origin work:work; git checkout -q work; git worktree add -q "$1/tree" HEAD~1`,
		then: `
		export HOME="$3"; git config --global --add safe.directory '*'
		for d in clone second tree; do
			cd "$1/$d"; git fsck --strict --no-progress; git status --porcelain; git log --format=%H; git ls-files -s; git diff --stat
		done`},
	{name: "sqlite", needs: []string{"sqlite3"}, do: `
		for mode in delete truncate persist wal; do
			sqlite3 "$1/$mode.db" "pragma journal_mode=$mode; pragma synchronous=full; create table t(id integer primary key, v text, w blob);"
			for n in 1 2 3; do
				sqlite3 "$1/$mode.db" "pragma journal_mode=$mode; begin; with recursive c(i) as (select 1 union all select i+1 from c where i<2000) insert into t(v,w) select 'row '||i, zeroblob(i%500) from c; commit;"
				sqlite3 "$1/$mode.db" "pragma journal_mode=$mode; begin; update t set v=v||'x' where id%7=0; rollback; delete from t where id%11=$n; update t set v='changed' where id%5=$n;"
			done
			sqlite3 "$1/$mode.db" "create index i on t(v); vacuum; pragma integrity_check;"
		done
		sqlite3 "$1/wal.db" "pragma wal_checkpoint(truncate);"
		(for i in $(seq 20); do sqlite3 -cmd ".timeout 20000" "$1/wal.db" "insert into t(v) values('a');" >/dev/null || echo failed; done) & one=$!
		(for i in $(seq 20); do sqlite3 -cmd ".timeout 20000" "$1/wal.db" "insert into t(v) values('a');" >/dev/null || echo failed; done) & two=$!
		wait $one; wait $two`,
		then: `
		for mode in delete truncate persist wal; do
			cp "$1/$mode.db" "$3/look.db"
			sqlite3 "$3/look.db" "pragma integrity_check; select count(*), count(distinct v), total(length(w)), sum(v='changed'), sum(v='a') from t;"
		done`},
	{name: "go", needs: []string{"go"}, do: `
		cp -r "$2/gomod" "$1/m"; cd "$1/m"
		go build -o hello . ; ./hello; go vet ./...; go test ./... | cut -f1,2; go run .`,
		then: `cd "$1/m"; ./hello; go build -o "$3/hello" .; "$3/hello"`},
	{name: "moves", do: `
		cp -a "$2/tree" "$1/a"; mkdir "$1/b" "$1/c"
		mv "$1/a" "$1/b/"; mv "$1/b/a" "$1/c/z"; cp -a "$1/c/z" "$1/one"; mv "$1/one" "$1/c"
		cp -a "$1/c/z" "$3/out"; mv "$3/out" "$1/in"; cp -a "$1/in" "$1/leaves"; mv "$1/leaves" "$3/left"; diff -r --no-dereference "$3/left" "$1/in"
		for i in $(seq 50); do echo $i > "$1/b/f$i"; done; mv "$1"/b/f* "$1/c/"; mv "$1/c/f1" "$1/c/f2"; mv -n "$1/c/f3" "$1/c/f4"; mv -f "$1/c/f5" "$1/c/f6"
		mv -T "$1/b" "$1/renamed"; mv "$1/renamed" "$1/b"; mv --backup=numbered "$1/c/f7" "$1/c/f8"`,
		then: `diff -r --no-dereference "$2/tree" "$1/in"; cat "$1/c/f2" "$1/c/f6" "$1/c/f8" "$1/c/f8.~1~"; ls "$1/c" | wc -l`},
	{name: "find, du and rm", do: `
		cp -a "$2/tree" "$1/t"; cp -a "$2/tree" "$1/u"; cp -a "$2/tree" "$1/v"
		rm -rf "$1/t"; [ ! -e "$1/t" ]
		find "$1/u" -type f -name '*1*' -delete; find "$1/u" -type l -exec rm {} +; find "$1/u" -type d -empty -delete
		find "$1/v" -depth -name '*-0*' -exec rm -rf {} +; rm -rf "$1/v"/.[!.]*; chmod -R go-rwx "$1/v"; chown -R 12:34 "$1/v"`,
		then: `
		find "$1" -printf '%y %m %U:%G %l %P\n' | sort; find "$1" -type f -printf '%s %n %P\n' | sort; find "$1" -type f -size +10k | wc -l; find "$1" -newermt 2019-01-01 -type f | wc -l
		find "$1" -type f -print0 | du --apparent-size -b -c --files0-from=- | tail -n1`},
	{name: "small tools", do: `
		cd "$1"; seq 1000 > n; sed -i 's/7/seven/' n; sort -r -o n n; split -l 100 n part.; cat part.* | cmp - n; rm part.ab
		dd if=/dev/urandom of="$3/r" bs=64k count=20 2>/dev/null; [ -e "$2/r" ] || cp "$3/r" "$2/r"
		dd if="$2/r" of=d bs=4k conv=fsync 2>/dev/null; dd if="$2/r" of=d bs=1k seek=33 skip=7 count=100 conv=notrunc 2>/dev/null; dd if="$2/r" of=d oflag=append conv=notrunc bs=100k count=1 2>/dev/null
		dd if="$2/r" of=direct bs=64k oflag=direct 2>/dev/null; truncate -s 1M t; truncate -s -100 t; fallocate -l 100000 fa; fallocate -p -o 4096 -l 4096 fa
		gzip -k -n n; gunzip -c n.gz | cmp - n; install -m 750 n installed; ln -s n l; ln -sf d l; tee -a n < l >/dev/null; touch -r n touched; touch -d 2001-01-01 old
		for i in $(seq 200); do echo "line $i" >> log; done; : > emptied; mkfifo p; (cat p > fromfifo) & echo through > p; wait
		diff n installed > n.diff || true; cp n patched; flock lockfile -c 'echo locked > inlock'; shred -n 1 -u -s 5000 lockfile; mkdir -p a/b/c/d; rmdir -p a/b/c/d; mktemp -p . >/dev/null; rm tmp.*`,
		then: `cd "$1"; cksum n d direct t fa n.gz installed log fromfifo n.diff; readlink l; stat -c '%a %s %F' *`},
}

// material makes what the programs work from.
func (e *env) material(dir string) {
	e.Helper()
	e.ok(os.Mkdir(dir, 0o755))
	e.ok(harness.Generate(dir+"/tree", 11, 150))
	e.ok(harness.WriteFile(dir+"/big", 12, 6<<20))
	e.sh(`
		cd "$1"
		touch -d "2021-02-02 02:02:02.2" tree # rsync leaves a directory of the same second as it is
		cp -a tree tree2; find tree2 -type f -name '*3*' -delete; find tree2 -type f -name '*2*' -size +1k -exec sh -c 'for f; do printf changed >> "$f"; done' sh {} +; mkdir tree2/newdir; echo new > tree2/newdir/new; find tree2 -type d -exec touch -d "2021-01-01 01:02:03.4" {} +
		seq 100000 > grown; touch -d 2020-01-01 grown big
		truncate -s 3M sparse; printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc 2>/dev/null; touch -d 2020-01-01 sparse
		tar -cf tree.tar -C tree .
		cp -a tree z; find z -type l -delete; find z -name '*[!-a-zA-Z0-9_.]*' -depth -exec rm -rf {} +; touch -d "2020-02-02 02:02:02" z; cd z; zip -q -r -X ../tree.zip .; cd ..; rm -rf z
		mkdir repo; cd repo; export HOME="$1" GIT_CONFIG_NOSYSTEM=1; git init -q -b main .; git config user.name a; git config user.email a@b
		for i in 1 2 3 4 5 6 7 8; do seq $i 500 > f$i; mkdir -p d$i; cp f$i d$i/g; git add -A; git commit -q -m "c$i"; done; git branch b1 HEAD~3; git tag t1 HEAD~2; cd ..
		mkdir -p gomod/lib; cd gomod
		printf 'module example.com/hello\n\ngo 1.21\n' > go.mod
		printf 'package main\n\nimport (\n\t"fmt"\n\n\t"example.com/hello/lib"\n)\n\nfunc main() { fmt.Println(lib.Hello()) }\n' > main.go
		printf 'package lib\n\n// Hello greets.\nfunc Hello() string { return "hello" }\n' > lib/lib.go
		printf 'package lib\n\nimport "testing"\n\nfunc TestHello(t *testing.T) {\n\tif Hello() != "hello" {\n\t\tt.Fatal()\n\t}\n}\n' > lib/lib_test.go`, dir)
}

func TestProgramsDoTheirWork(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.material(e.path("material"))
	m := e.mount("cache", "--meta-ttl=1s", "--write-back-delay=500ms")
	e.ok(os.Mkdir(e.path("plain"), 0o755))
	where := []string{e.path("plain"), m.Point}
	said, left := map[string]string{}, map[string]map[string]harness.Entry{}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			sub := *e
			sub.T = t
			for _, tool := range p.needs {
				if _, err := exec.LookPath(tool); err != nil {
					t.Fatalf("%s is missing: apt-get install it", tool)
				}
			}
			var then [2]string
			for i, root := range where {
				dir, aside := filepath.Join(root, p.name), e.path(fmt.Sprint("aside ", i, " ", p.name))
				sub.ok(os.MkdirAll(aside, 0o755))
				sub.ok(os.Mkdir(dir, 0o755))
				sub.sh(p.do, dir, e.path("material"), aside)
				then[i] = sub.sh(p.then, dir, e.path("material"), aside)
			}
			if then[0] != then[1] {
				t.Errorf("in a plain directory:\n%.2000s\nin the mount:\n%.2000s", then[0], then[1])
			}
			dir := filepath.Join(m.Point, p.name)
			want, err := harness.Snapshot(filepath.Join(where[0], p.name))
			sub.ok(err)
			got, err := harness.Snapshot(dir)
			sub.ok(err)
			sub.noLines(harness.Diff(p.known(want), p.known(got)))
			if !t.Failed() {
				said[p.name], left[p.name] = then[1], got
			}
		})
	}
	m.wait(m.Point)
	m.umount(0)
	m.Cache = e.path("another-cache")
	m.start()
	for _, p := range programs {
		if left[p.name] == nil {
			continue
		}
		t.Run("again/"+p.name, func(t *testing.T) {
			sub := *e
			sub.T = t
			dir, aside := filepath.Join(m.Point, p.name), e.path("again "+p.name)
			sub.ok(os.MkdirAll(aside, 0o755))
			got, err := harness.Snapshot(dir)
			sub.ok(err)
			want := left[p.name]
			if !p.times { // names that come and go move a directory's time, and that is not kept on OSS
				forgetTimes(want, true)
				forgetTimes(got, true)
			}
			sub.noLines(harness.Diff(want, got))
			if then := sub.sh(p.then, dir, e.path("material"), aside); then != said[p.name] {
				t.Errorf("before:\n%.2000s\nnow:\n%.2000s", said[p.name], then)
			}
		})
	}
}

// known is what of a tree is the same wherever the program runs.
func (p *program) known(tree map[string]harness.Entry) map[string]harness.Entry {
	out := map[string]harness.Entry{}
	for name, e := range tree {
		switch {
		case p.name == "git" && strings.Contains(name, "/.git"), p.name == "sqlite", p.name == "go" && filepath.Base(name) == "hello":
			continue // packs, indexes and journals have times and orders of their own
		}
		out[name] = e
	}
	if !p.times {
		forgetTimes(out, false)
	}
	return out
}

func forgetTimes(tree map[string]harness.Entry, dirsOnly bool) {
	for name, e := range tree {
		if !dirsOnly || e.Mode.IsDir() {
			e.Mtime = 0
			tree[name] = e
		}
	}
}

// TestEditorsSave does what editors do when they save: none of it may lose the
// file, its attributes, or its place.
func TestEditorsSave(t *testing.T) {
	t.Parallel()
	e := setup(t)
	m := e.mount("cache", "--write-back-delay=0s", "--doubt=1s")
	fill := func(path, text string) {
		f := e.open(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
		_, err := f.WriteString(text)
		e.ok(err)
		e.ok(f.Sync())
		e.ok(f.Close())
	}
	ways := map[string]func(path, text string){
		"vim": func(path, text string) { // a trial file, the old one aside, a new one, the old one away
			trial := filepath.Join(filepath.Dir(path), "4913")
			fill(trial, "")
			e.ok(os.Chown(trial, 0, 0))
			e.ok(os.Remove(trial))
			e.ok(os.Rename(path, path+"~"))
			fill(path, text)
			e.ok(os.Chmod(path, 0o640))
			e.ok(os.Remove(path + "~"))
		},
		"vim with a copy": func(path, text string) { // backupcopy=yes: the same file
			old, err := os.ReadFile(path)
			e.ok(err)
			fill(path+"~", string(old))
			f := e.open(path, os.O_WRONLY|os.O_TRUNC)
			_, err = f.WriteString(text)
			e.ok(err)
			e.ok(f.Sync())
			e.ok(f.Close())
			e.ok(os.Remove(path + "~"))
		},
		"others": func(path, text string) { // a temporary file renamed over it
			fill(path+".tmp", text)
			e.ok(os.Chmod(path+".tmp", 0o640))
			e.ok(os.Rename(path+".tmp", path))
			d := e.open(filepath.Dir(path), os.O_RDONLY)
			e.ok(d.Sync())
			e.ok(d.Close())
		},
	}
	last := map[string]string{}
	for name := range ways {
		e.write(m.in(name), "first")
		e.ok(os.Chmod(m.in(name), 0o640))
	}
	for round := range 12 {
		for name, save := range ways {
			last[name] = strings.Repeat(fmt.Sprint(name, " saves ", round, "\n"), round*50)
			save(m.in(name), last[name])
			e.reads(m.in(name), last[name])
			if round%3 == 2 {
				m.wait(m.in(name))
			}
		}
		if round%4 == 3 {
			m.kill9()
			m.start()
		}
	}
	for _, again := range []string{"", "cache", "another-cache"} {
		if again != "" {
			m.wait(m.Point)
			m.umount(0)
			m.Cache = e.path(again)
			m.start()
		}
		for name := range ways {
			e.reads(m.in(name), last[name])
			if fi, err := os.Stat(m.in(name)); err != nil || fi.Mode() != 0o640 {
				t.Errorf("%s: %v %v", name, fi, err)
			}
		}
		if list, err := os.ReadDir(m.Point); err != nil || len(list) != len(ways) {
			t.Errorf("files: %v %v", list, err)
		}
	}
}
