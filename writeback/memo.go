package writeback

import (
	"strings"
	"sync"

	"github.com/ossmount/ossmount/internal/object"
	"github.com/ossmount/ossmount/journal"
)

// Memo is what the settling of a row made of its key (R9).
type Memo struct {
	Ref   object.Ref     // zero: the key holds nothing
	Attrs *journal.Attrs // of a Ref
}

// memos remembers settles for as long as an answer is in use whose request was
// started before them. Time is counted in settles.
type memos struct {
	mu    sync.Mutex
	clock uint64
	inUse map[uint64]int // how many answers were asked for at that time
	known map[string]timed
	under map[string]map[string]struct{} // keys of known, by each directory that they lie in

	changes int64            // of directories
	dirs    map[string]int64 // when a directory last came to, or went from, the one with this key
	floor   int64            // or not before this, where that is forgotten
}

type timed struct {
	Memo
	at uint64
}

// Moment is when a request to OSS was started. Its holder calls Done when the
// answer is not used any more.
type Moment struct {
	m    *memos
	at   uint64
	once sync.Once
}

func newMemos() *memos {
	return &memos{inUse: map[uint64]int{}, dirs: map[string]int64{}, known: map[string]timed{}, under: map[string]map[string]struct{}{}}
}

// Moment must be taken before the request is started, and after the rows with
// which the answer will be merged were read for the first time.
func (q *Queue) Moment() *Moment { return q.memos.now() }

func (m *memos) now() *Moment {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inUse[m.clock]++
	return &Moment{m: m, at: m.clock}
}

// Done says that nothing of the answer is in use any more.
func (w *Moment) Done() {
	w.once.Do(func() {
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		if w.m.inUse[w.at]--; w.m.inUse[w.at] == 0 {
			delete(w.m.inUse, w.at)
			w.m.forgetLocked(w.at)
		}
	})
}

// Since returns what has become of key since the moment, if any row of it has
// settled.
func (w *Moment) Since(key string) (Memo, bool) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	t, ok := w.m.known[key]
	return t.Memo, ok && t.at > w.at
}

// Under calls f for every key beneath a directory (a key ending in "/", or "")
// of which a row has settled since the moment.
func (w *Moment) Under(prefix string, f func(key string, m Memo)) {
	w.m.mu.Lock()
	var keys []string
	var found []Memo
	for k := range w.m.under[prefix] {
		if t := w.m.known[k]; t.at > w.at {
			keys, found = append(keys, k), append(found, t.Memo)
		}
	}
	w.m.mu.Unlock()
	for i, k := range keys {
		f(k, found[i])
	}
}

// settled notes what became of key, if an answer is in use that is older.
func (m *memos) settled(key string, memo Memo) {
	m.dirHas(key) // takes the lock by itself
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock++
	if len(m.inUse) == 0 {
		return
	}
	if _, ok := m.known[key]; !ok {
		for dir := range journal.DirsOf(key) {
			if m.under[dir] == nil {
				m.under[dir] = map[string]struct{}{}
			}
			m.under[dir][key] = struct{}{}
		}
	}
	m.known[key] = timed{memo, m.clock}
}

func (m *memos) dropLocked(key string) {
	delete(m.known, key)
	for dir := range journal.DirsOf(key) {
		if delete(m.under[dir], key); len(m.under[dir]) == 0 {
			delete(m.under, dir)
		}
	}
}

// forgetLocked drops the memos that are older than every answer in use, now
// that the one asked for at the time done is not.
func (m *memos) forgetLocked(done uint64) {
	oldest := m.clock
	for at := range m.inUse {
		oldest = min(oldest, at)
	}
	if oldest < done {
		return // an older answer keeps them all
	}
	for k, t := range m.known {
		if t.at <= oldest {
			m.dropLocked(k)
		}
	}
}

// mostDirs is for how many directories that is remembered.
const mostDirs = 100_000

// dirHas takes note of a change of key, if it is a directory.
func (m *memos) dirHas(key string) {
	name, isDir := strings.CutSuffix(key, "/")
	if !isDir {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changes++
	if len(m.dirs) >= mostDirs {
		clear(m.dirs)
		m.floor = m.changes
	}
	m.dirs[name[:strings.LastIndexByte(name, '/')+1]] = m.changes
}

// dirsIn tells when a directory last came to, or went from, the directory key.
func (m *memos) dirsIn(key string) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.dirs[key], m.floor)
}
